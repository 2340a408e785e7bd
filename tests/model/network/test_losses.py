from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.losses import (
    Counts,
    count_targets,
    cross_entropy_sum,
    ctc_sum,
    decred_loss,
    pack_ctc_targets,
)


def test_the_loss_equals_a_value_computed_by_hand() -> None:
    # Two classes, two frames, one label 0, blank 1. Paths that give "0": (0,0), (0,b), (b,0).
    probabilities = torch.tensor([[[0.6, 0.4], [0.3, 0.7]]])
    ctc = ctc_sum(probabilities.log(), torch.tensor([2]), pack_ctc_targets(torch.tensor([[0]]), blank=1))
    by_hand = -math.log(0.6 * 0.3 + 0.6 * 0.7 + 0.4 * 0.3)
    assert float(ctc) == pytest.approx(by_hand)
    # One token with p = 0.25 from the auxiliary and 0.5 from the final classifier; a = 0.3, weights 0.4 and 0.6.
    nll = torch.tensor([-math.log(0.25), -math.log(0.5)])
    losses = decred_loss(ctc, nll, torch.tensor([0.4, 0.6]), 0.3)
    attention = 0.4 * math.log(4) + 0.6 * math.log(2)
    assert float(losses.attention) == pytest.approx(attention)
    assert float(losses.total) == pytest.approx(0.3 * by_hand + 0.7 * attention)


def test_label_smoothing_mixes_in_the_mean_over_classes() -> None:
    probabilities = torch.tensor([[[0.7, 0.2, 0.1]]])
    smoothed = cross_entropy_sum(probabilities.log(), torch.tensor([[0]]), smoothing=0.1)
    mean = -(math.log(0.7) + math.log(0.2) + math.log(0.1)) / 3
    assert float(smoothed) == pytest.approx(0.9 * -math.log(0.7) + 0.1 * mean)


def test_each_utterance_counts_once_however_long_its_target() -> None:
    logits = torch.randn(2, 20, 6)
    labels = torch.tensor([[1, 2, 3, 4], [2, -100, -100, -100]])
    both = ctc_sum(logits, torch.tensor([20, 20]), pack_ctc_targets(labels, blank=5))
    nll = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1),
        labels.clamp_min(0),
        torch.tensor([20, 20]),
        torch.tensor([4, 1]),
        5,
        "none",
    )
    assert float(both) == pytest.approx(float(nll[0] / 4 + nll[1]), rel=1e-5)


def test_a_target_that_cannot_fit_and_an_utterance_without_labels_count_as_nothing() -> None:
    logits = torch.randn(2, 3, 6)
    labels = torch.tensor([[1, 1, 2, 3], [-100, -100, -100, -100]])
    assert float(ctc_sum(logits, torch.tensor([3, 3]), pack_ctc_targets(labels, blank=5))) == 0.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_a_batch_split_in_two_has_the_same_loss(seed: int, cut: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 4, 7, generator=generator)
    labels = torch.randint(0, 7, (6, 4), generator=generator)
    labels[torch.rand(6, 4, generator=generator) < 0.3] = -100
    whole = cross_entropy_sum(logits, labels, 0.1)
    parts = cross_entropy_sum(logits[:cut], labels[:cut], 0.1) + cross_entropy_sum(logits[cut:], labels[cut:], 0.1)
    torch.testing.assert_close(whole, parts)
    assert count_targets(labels) == Counts(6, int((labels >= 0).sum()))
