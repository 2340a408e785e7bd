"""Subtitles: the cues of a transcript, a cue for each segment or lines of limited length made of its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.errors import UserError
from model.transcription.transcript import Segment, Transcript, Word


@dataclass(frozen=True)
class Layout:
    """How long cues may be: characters in a line, lines in a cue, words in a cue; None is no limit.

    `highlight` marks each word while it is spoken, in a cue of its own.
    """

    line_width: int | None = None
    line_count: int | None = None
    cue_words: int | None = None
    highlight: bool = False

    def __post_init__(self) -> None:
        if self.line_count is not None and self.line_width is None:
            raise UserError(
                f"at most {self.line_count} lines in a cue says nothing without their width; give the width, too"
            )
        if self.cue_words is not None and self.line_width is not None:
            raise UserError("cues are limited by the width of lines or by their number of words; give one of the two")


@dataclass(frozen=True)
class Cue:
    """Lines of text that are shown together, from `start` to `end` in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def make_cues(transcript: Transcript, layout: Layout | None = None) -> list[Cue]:
    """The cues of a transcript, in the order of time."""
    layout = layout or Layout()
    return [cue for segment in transcript.segments for cue in _make_segment_cues(segment, layout)]


def _make_segment_cues(segment: Segment, layout: Layout) -> Iterator[Cue]:
    if layout.line_width is None and layout.cue_words is None and not layout.highlight:
        yield Cue(segment.start, segment.end, (segment.text,))
        return
    for lines in _group_lines(segment.words, layout):
        words = [word for line in lines for word in line]
        if layout.highlight:
            yield from _highlight(lines, words)
        else:
            yield Cue(words[0].start, words[-1].end, tuple(" ".join(word.text for word in line) for line in lines))


def _group_lines(words: Sequence[Word], layout: Layout) -> Iterator[list[list[Word]]]:
    """The lines of each cue."""
    if layout.cue_words is not None:
        for first in range(0, len(words), layout.cue_words):
            yield [list(words[first : first + layout.cue_words])]
        return
    lines = _break_lines(words, layout.line_width)
    count = layout.line_count or len(lines)
    for first in range(0, len(lines), count):
        yield lines[first : first + count]


def _break_lines(words: Sequence[Word], width: int | None) -> list[list[Word]]:
    """As many words in each line as it has room for; a word that is longer than a line has one for itself."""
    lines: list[list[Word]] = [[]]
    length = 0
    for word in words:
        if width is not None and lines[-1] and length + 1 + len(word.text) > width:
            lines.append([])
        length = len(word.text) + (length + 1 if lines[-1] else 0)
        lines[-1].append(word)
    return lines


def _highlight(lines: Sequence[Sequence[Word]], words: Sequence[Word]) -> Iterator[Cue]:
    """A cue for each word, in which it is underlined, and one for each pause between words."""
    shown = words[0].start
    for spoken in words:
        if spoken.start > shown:
            yield Cue(shown, spoken.start, tuple(" ".join(word.text for word in line) for line in lines))
        marked = [[f"<u>{word.text}</u>" if word is spoken else word.text for word in line] for line in lines]
        yield Cue(spoken.start, spoken.end, tuple(map(" ".join, marked)))
        shown = spoken.end
