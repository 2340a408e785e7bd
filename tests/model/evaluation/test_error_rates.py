from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.evaluation.error_rates import Edits, character_edits, error_rate, word_edits

WORDS = st.lists(st.sampled_from(["turn", "on", "the", "light", "seven"]), max_size=7).map(" ".join)
LETTERS = st.text("ab ", max_size=8)


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions between two sequences, by dynamic programming."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, given_item in enumerate(hypothesis, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != given_item))
    return row[-1]


def check_edits(edits: Edits, reference: Sequence[str], hypothesis: Sequence[str]) -> None:
    """The counts are those of an alignment, and no alignment has fewer errors."""
    assert min(edits) >= 0
    assert edits.length == len(reference)
    hits = len(reference) - edits.substitutions - edits.deletions
    assert hits >= 0
    assert hits + edits.substitutions + edits.insertions == len(hypothesis)
    assert edits.errors == edit_distance(reference, hypothesis)


@given(WORDS, WORDS)
@example("turn on the light", "turn the the light now")
def test_word_edits_are_the_fewest(reference: str, hypothesis: str) -> None:
    check_edits(word_edits(reference, hypothesis), reference.split(), hypothesis.split())


@given(LETTERS, LETTERS)
def test_character_edits_are_the_fewest_with_inner_spaces_counted(reference: str, hypothesis: str) -> None:
    check_edits(character_edits(reference, hypothesis), reference.strip(), hypothesis.strip())


def test_substitutions_deletions_and_insertions_are_counted_separately() -> None:
    assert word_edits("turn on the light", "turn the the light now") == Edits(1, 0, 1, 4)
    assert word_edits("turn on", "") == Edits(0, 2, 0, 2)
    assert word_edits("", "turn on") == Edits(0, 0, 2, 0)
    assert character_edits("abc", "abd") == Edits(1, 0, 0, 3)


@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=5))
def test_a_set_s_error_rate_pools_the_counts_of_its_utterances(pairs: list[tuple[str, str]]) -> None:
    errors = sum(edit_distance(reference.split(), hypothesis.split()) for reference, hypothesis in pairs)
    expected = 100 * errors / sum(len(reference.split()) for reference, _ in pairs)
    assert error_rate(word_edits(*pair) for pair in pairs) == pytest.approx(expected)


def test_the_error_rate_is_not_the_mean_of_utterances() -> None:
    edits = [word_edits("one", "two"), word_edits("one two three four", "one two three four")]
    assert error_rate(edits) == pytest.approx(100 * 1 / 5)


def test_a_set_without_a_word_has_no_error_rate() -> None:
    with pytest.raises(ValueError, match="no reference holds a word"):
        error_rate([word_edits("", "a")])
