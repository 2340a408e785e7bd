from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding.ctc_prefix import PrefixScorer

BLANK, CLASSES = 3, 4


def prefix_probability(probabilities: torch.Tensor, prefix: tuple[int, ...]) -> float:
    """Sum over all paths whose collapsed labels start with `prefix`, by enumeration."""
    total = 0.0
    for path in itertools.product(range(CLASSES), repeat=probabilities.shape[0]):
        collapsed = tuple(label for label, _ in itertools.groupby(path) if label != BLANK)
        if collapsed[: len(prefix)] == prefix:
            total += float(torch.stack([probabilities[t, c] for t, c in enumerate(path)]).prod())
    return total


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 2), max_size=3), st.integers(1, 5))
def test_prefix_scores_equal_the_sum_over_all_paths(seed: int, prefix: list[int], frames: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs = (3 * torch.randn(1, 5, CLASSES, generator=generator, dtype=torch.float64)).log_softmax(-1)
    scorer = PrefixScorer(log_probs, torch.tensor([frames]), BLANK)
    state = scorer.start()
    for token in prefix:
        scores = scorer.scores(state)
        state = scorer.extend(state, torch.tensor([token]), scores[:, token])
    scores = scorer.scores(state)
    assert not scores.isnan().any()
    for token in range(CLASSES - 1):
        expected = prefix_probability(log_probs[0, :frames].exp(), (*prefix, token))
        assert float(scores[0, token].exp()) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_prefix_longer_than_its_frames_is_impossible() -> None:
    log_probs = torch.randn(1, 2, CLASSES).log_softmax(-1)
    scorer = PrefixScorer(log_probs, torch.tensor([2]), BLANK)
    state = scorer.start()
    for token in (0, 0):  # equal neighbours need a blank between: three frames
        state = scorer.extend(state, torch.tensor([token]), scorer.scores(state)[:, token])
    assert torch.isneginf(scorer.scores(state)).all()
