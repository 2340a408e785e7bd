"""Weights of auxiliary classifiers from shares, and back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.search.classifiers import MAX_SHARE, MIN_SHARE, shares_to_weights, weights_to_shares


@given(rest=st.floats(0.05, 0.95), shares=st.lists(st.floats(MIN_SHARE, MAX_SHARE), max_size=6))
def test_weights_sum_to_what_was_split_and_convert_back_to_the_shares(rest: float, shares: list[float]) -> None:
    weights = shares_to_weights(rest, shares)
    assert sum(weights) == pytest.approx(rest)
    assert all(weight > 0 for weight in weights)
    assert weights_to_shares(weights) == pytest.approx(shares, abs=1e-9)


def test_weights_and_shares_equal_those_computed_by_hand() -> None:
    # three pieces: 1 - sqrt(1 - 0.75) = half of the rest first, then 0.4 of what is left
    assert shares_to_weights(0.6, [0.75, 0.4]) == pytest.approx([0.3, 0.12, 0.18])
    assert weights_to_shares([0.3, 0.12, 0.18]) == pytest.approx([0.75, 0.4])


def test_uniform_shares_favour_no_classifier() -> None:
    generator = random.Random(0)
    draws = [shares_to_weights(1.0, [generator.random() for _ in range(3)]) for _ in range(4000)]
    for column in zip(*draws, strict=True):
        # on a uniform simplex of four, each weight has mean 1/4 and standard deviation sqrt(3/80)
        mean = sum(column) / len(column)
        assert mean == pytest.approx(0.25, abs=0.01)
        assert sum((x - mean) ** 2 for x in column) / len(column) == pytest.approx(3 / 80, rel=0.08)
