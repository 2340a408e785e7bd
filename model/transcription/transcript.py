"""What a transcription gives: segments with their times and words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word, and when it is spoken, in seconds from the recording's start.

    `confidence` is the probability that the decoder alone gives to the word's pieces after the words before it, from 0
    to 1: it ranks words, and is no share of words that are right.
    `is_aligned` is false where CTC could not place the segment's pieces: its words then share its time evenly.
    """

    text: str
    start: float
    end: float
    confidence: float
    is_aligned: bool = True


@dataclass(frozen=True)
class Segment:
    """What was decoded at once: from its first word to its last, in seconds from the recording's start."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Transcript:
    """The segments of a recording of so many `seconds`, in their order; those without a word are left out."""

    segments: tuple[Segment, ...]
    seconds: float

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> list[Word]:
        return [word for segment in self.segments for word in segment.words]
