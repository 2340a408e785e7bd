"""Error rates over pooled counts, 100 (S + D + I) / N of a whole set, and perplexities."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

import jiwer

ALIGNER = f"jiwer {version('jiwer')}"  # of several alignments with the fewest errors, each aligner has its own


class Edits(NamedTuple):
    """Substitutions, deletions, insertions, and the length of the reference."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


@dataclass(frozen=True)
class ScoredUtterance:
    """An utterance with everything that a later test of significance needs.

    `nll` is over `tokens` (eos counted) with the audio, `ilm_nll` over the same tokens without it, `layer_nll` that of
    each auxiliary classifier with the audio. `ctc_words` are the edits of the greedy CTC hypothesis. `speaker` and
    `set_name` are empty where they are not known.
    """

    id: str
    reference: str
    hypothesis: str
    words: Edits
    characters: Edits
    nll: float
    ilm_nll: float
    tokens: int
    ctc_words: Edits
    layer_nll: tuple[float, ...] = ()
    speaker: str = ""
    set_name: str = ""


def word_edits(reference: str, hypothesis: str) -> Edits:
    """Counts of an alignment of words with the fewest errors."""
    if not reference.split():
        return Edits(0, 0, len(hypothesis.split()), 0)
    return _to_edits(jiwer.process_words(reference, hypothesis))


def character_edits(reference: str, hypothesis: str) -> Edits:
    """Counts of an alignment of characters with the fewest errors, spaces inside the text included."""
    reference, hypothesis = reference.strip(), hypothesis.strip()
    if not reference:
        return Edits(0, 0, len(hypothesis), 0)
    return _to_edits(jiwer.process_characters(reference, hypothesis))


def _to_edits(aligned: jiwer.WordOutput | jiwer.CharacterOutput) -> Edits:
    length = aligned.substitutions + aligned.deletions + aligned.hits
    return Edits(aligned.substitutions, aligned.deletions, aligned.insertions, length)


def sum_edits(edits: Iterable[Edits]) -> Edits:
    """The counts of many utterances together."""
    return Edits(*(sum(counts) for counts in zip(Edits(0, 0, 0, 0), *edits, strict=True)))


def error_rate(edits: Iterable[Edits]) -> float:
    """Percent, over the pooled counts of many utterances. Raises a ValueError where no reference has a word."""
    edits = list(edits)
    length = sum(counts.length for counts in edits)
    if not length:
        raise ValueError("no reference holds a word, so an error rate is undefined")
    return 100.0 * sum(counts.errors for counts in edits) / length


def perplexity(nll: float, count: int) -> float:
    """exp(nll / count), of nats over tokens or words.

    It is kept finite: a tracker cannot store infinity, and a model with more than 100 nats a token is useless anyway.
    """
    return math.exp(min(nll / count, 100.0))
