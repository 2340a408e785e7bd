"""What the error browser shows: utterances, and what each system recognised of them, aligned word by word.

An alignment is a string over C, S, D and I (study/verdict/alignment.py), read with the words of both texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from model.corpora.source import AudioRef
from model.evaluation.error_rates import Edits, sum_edits
from study.verdict.alignment import count_reference


class Step(NamedTuple):
    """One place of an alignment: C, S, D or I; the word that lacks is empty."""

    letter: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a system recognised of an utterance; `letters` is its alignment with the reference."""

    hypothesis: str
    letters: str

    @property
    def edits(self) -> Edits:
        letters = self.letters
        return Edits(letters.count("S"), letters.count("D"), letters.count("I"), count_reference(letters))


@dataclass(frozen=True, slots=True)
class Utterance:
    """An utterance of a set. `recognitions` are by system, None where it lacks the utterance.

    `part` is the file that it was read from: that of the dev sets holds several sets. `speaker` is empty and `seconds`
    and `audio` are None where they are not known.
    """

    id: str
    part: str
    set_name: str
    speaker: str
    reference: str
    recognitions: tuple[Recognition | None, ...]
    seconds: float | None = None
    audio: AudioRef | None = None

    def steps(self, system: int) -> list[Step]:
        """The alignment of the reference with what this system recognised; empty where it lacks the utterance."""
        recognition = self.recognitions[system]
        if recognition is None:
            return []
        return list(_walk(recognition.letters, self.reference.split(), recognition.hypothesis.split()))

    @property
    def is_in_all(self) -> bool:
        return all(recognition is not None for recognition in self.recognitions)


@dataclass(frozen=True)
class System:
    """A system: the letter that it has on the page, its name, where its hypotheses lie and how they were scored."""

    letter: str
    name: str
    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """All that is shown. `notes` are sentences on what is missing or differs."""

    systems: tuple[System, ...]
    utterances: tuple[Utterance, ...]
    notes: tuple[str, ...] = ()


def _walk(letters: str, reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[Step]:
    ours, theirs = iter(reference), iter(hypothesis)
    for letter in letters:
        yield Step(letter, "" if letter == "I" else next(ours), "" if letter == "D" else next(theirs))


def count_edits(utterances: Iterable[Utterance], system: int) -> Edits:
    """The counts of a system over the utterances that it has."""
    found = (utterance.recognitions[system] for utterance in utterances)
    return sum_edits(recognition.edits for recognition in found if recognition is not None)


def compute_wer(edits: Edits) -> float | None:
    """Percent; None where no reference has a word."""
    return 100.0 * edits.errors / edits.length if edits.length else None


def compute_difference(utterance: Utterance, first: int = 0, second: int = 1) -> float | None:
    """WER of the first system less that of the second, in points; None where one lacks the utterance, or has no WER."""
    pair = [utterance.recognitions[system] for system in (first, second)]
    rates = [compute_wer(recognition.edits) for recognition in pair if recognition is not None]
    if len(rates) < 2 or rates[0] is None or rates[1] is None:
        return None
    return rates[0] - rates[1]
