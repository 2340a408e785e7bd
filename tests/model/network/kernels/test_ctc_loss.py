"""Against torch's loss over all classes, values and gradients: torch's own recursion, and that over labels.

The latter is what GPUs run; here it runs on this processor.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network.kernels import ctc_loss
from model.network.kernels.ctc_loss import CtcTargets, ctc_nll, make_ctc_targets
from model.network.kernels.ctc_recursion import ctc_shares


@pytest.fixture(params=["over frames", "over labels"], autouse=True)
def recursion(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "over labels":

        def by_labels(log_probs: Tensor, frames: Tensor, targets: CtcTargets) -> tuple[Tensor, Tensor, Tensor]:
            return ctc_shares(log_probs, frames, targets.classes, targets.lengths)

        monkeypatch.setattr(ctc_loss, "torch_shares", by_labels)
    return request.param


def nll_of(logits: Tensor, frames: list[int], labels: Tensor, lengths: list[int], blank: int) -> Tensor:
    targets = make_ctc_targets(labels, torch.tensor(lengths), blank, torch.ones(len(lengths)))
    return ctc_nll(logits, torch.tensor(frames), targets)


def loss_by_torch(logits: Tensor, frames: list[int], labels: Tensor, lengths: list[int], blank: int) -> Tensor:
    log_probs = logits.log_softmax(dim=-1).transpose(0, 1)
    return F.ctc_loss(log_probs, labels, frames, lengths, blank, "none", zero_infinity=True)


# The fixture is the same for every example.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), classes=st.integers(2, 6), blank_first=st.booleans())
def test_the_loss_and_its_gradient_are_those_of_all_classes(
    data: st.DataObject, classes: int, blank_first: bool
) -> None:
    batch, most_frames, most_labels = 3, 9, 5
    frames = data.draw(st.lists(st.integers(1, most_frames), min_size=batch, max_size=batch))
    lengths = data.draw(st.lists(st.integers(0, most_labels), min_size=batch, max_size=batch))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    blank = 0 if blank_first else classes - 1
    # Few classes, so repeats and targets that do not fit are common.
    labels = torch.randint(int(blank_first), classes - 1 + blank_first, (batch, most_labels), generator=generator)
    logits = torch.randn(batch, max(frames), classes, generator=generator, dtype=torch.double, requires_grad=True)
    actual = nll_of(logits, frames, labels, lengths, blank)
    expected = loss_by_torch(logits, frames, labels, lengths, blank)
    torch.testing.assert_close(actual, expected)
    weights = torch.rand(batch, generator=generator, dtype=torch.double)
    (grad,) = torch.autograd.grad(actual @ weights, logits)
    torch.testing.assert_close(grad, torch.autograd.grad(expected @ weights, logits)[0])


def test_a_target_that_cannot_fit_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 6, requires_grad=True)
    nll = nll_of(logits, [3, 3], torch.tensor([[1, 1, 2], [1, 2, 3]]), [3, 3], 5)
    (grad,) = torch.autograd.grad(nll.sum(), logits)
    assert nll.tolist()[0] == 0.0 < nll.tolist()[1]
    assert not grad[0].any()
    assert grad[1].any()


def test_it_stays_finite_where_all_but_one_class_is_impossible() -> None:
    logits = torch.full((1, 4, 5), -1e4)
    logits[..., 4] = 1e4
    logits.requires_grad_()
    nll = nll_of(logits, [4], torch.tensor([[1, 2]]), [2], 4)
    (grad,) = torch.autograd.grad(nll.sum(), logits)
    assert torch.isfinite(nll).all()
    assert torch.isfinite(grad).all()


def test_a_minute_of_speech_has_the_gradient_that_float64_gives(recursion: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(2, 1500, 30, generator=generator)
    labels = torch.randint(0, 29, (2, 120), generator=generator)
    actual, expected = logits.clone().requires_grad_(), logits.double().requires_grad_()
    nll = nll_of(actual, [1500, 1100], labels, [120, 90], 29)
    theirs = loss_by_torch(expected, [1500, 1100], labels, [120, 90], 29)
    torch.testing.assert_close(nll.double(), theirs, rtol=1e-5, atol=1e-4)
    (grad,), (their_grad,) = torch.autograd.grad(nll.sum(), actual), torch.autograd.grad(theirs.sum(), expected)
    # torch's recursion runs in float32, and over 1,500 frames loses digits.
    assert float((grad - their_grad).abs().max()) < {"over frames": 2e-2, "over labels": 1e-4}[recursion]
