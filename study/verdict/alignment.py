"""How the words of two hypotheses were recognised, word by word of one reference.

The recognition of an utterance is a string: C, S or D for each word of the reference, in order, and I for each word
that was inserted there. Every paired test reads nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import jiwer

_LETTERS = {"equal": "C", "substitute": "S", "delete": "D", "insert": "I"}


@dataclass(frozen=True)
class PairedUtterance:
    """An utterance as two systems recognised it; `first` and `second` are strings over C, S, D and I."""

    id: str
    speaker: str
    first: str
    second: str

    def __post_init__(self) -> None:
        if count_reference(self.first) != count_reference(self.second):
            raise ValueError(
                f"utterance {self.id}: one side has {count_reference(self.first)} words in its reference, the other "
                f"{count_reference(self.second)}; align both to the same text"
            )

    @property
    def length(self) -> int:
        """Words of the reference."""
        return count_reference(self.first)


def align_words(reference: str, hypothesis: str) -> str:
    """The recognition of a reference's words, aligned with the fewest errors."""
    words = reference.split()
    if not words:
        return "I" * len(hypothesis.split())
    if not hypothesis.split():
        return "D" * len(words)
    (chunks,) = jiwer.process_words(reference, hypothesis).alignments
    return "".join(
        _LETTERS[chunk.type] * max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
    )


def count_reference(recognition: str) -> int:
    """Words of the reference."""
    return len(recognition) - recognition.count("I")


def count_errors(recognition: str) -> int:
    """Words that were substituted, deleted or inserted."""
    return len(recognition) - recognition.count("C")
