"""A GPU computes what this processor computes: losses, gradients, states, hypotheses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.data.batches import Batch
from model.decoding.beam_search import decode
from model.network.losses import Losses
from model.network.recogniser import Recogniser
from model.training.optimiser import accumulate_gradients, make_optimiser, train_step

# fp32: sums in another order. bf16: 8 bits of mantissa through all layers.
TOLERANCE = {"fp32": (1e-4, 2e-3), "bf16": (2e-2, 0.15)}  # of losses, and of gradients as a whole


def gradients_of(model: Recogniser, batch: Batch, precision: str) -> tuple[Losses, dict[str, Tensor]]:
    losses = accumulate_gradients(model.train(), batch, precision)
    gradients = {name: parameter.grad.cpu() for name, parameter in model.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    return losses, gradients


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cpu", "tiny"),
        pytest.param("cuda", "tiny", marks=pytest.mark.gpu),
        pytest.param("cuda", "small", marks=pytest.mark.gpu),
    ],
    indirect=["device"],
)
def test_losses_and_gradients_are_those_of_the_cpu(
    device: torch.device, make_model: Callable[..., Recogniser], batch: Batch, name: str, precision: str
) -> None:
    of_loss, of_gradient = TOLERANCE[precision]
    ours, gradients = gradients_of(make_model(name).to(device), batch.to(device), precision)
    theirs, expected = gradients_of(make_model(name), batch, "fp32")
    for term in ("total", "ctc", "inter_ctc", "attention"):
        assert float(getattr(ours, term)) == pytest.approx(float(getattr(theirs, term)), rel=of_loss), term
    whole, like = (torch.cat([value.flatten() for value in one.values()]) for one in (gradients, expected))
    assert distance(whole, like) < of_gradient
    biases = [name for name in expected if name.endswith(("content_bias", "position_bias", "position.weight"))]
    assert len(biases) >= 3
    for name in biases:  # relative positions, whose gradient goes through the bias of a fused kernel
        assert distance(gradients[name], expected[name]) < 5 * of_gradient, name


def test_the_first_steps_of_a_training_are_those_of_the_cpu(
    device: torch.device, make_model: Callable[..., Recogniser], batch: Batch
) -> None:
    losses: list[list[float]] = []
    for place in (device, torch.device("cpu")):
        model = make_model().to(place)
        optimiser = make_optimiser(model, model.recipe.optimiser)
        results = [train_step(model, [batch.to(place)], optimiser, 1e-3, 1.0, "fp32") for _ in range(5)]
        assert [result.find_fault() for result in results] == [None] * 5
        losses.append([float(result.loss_and_norm[0]) for result in results])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize(("beam", "ctc_weight"), [(1, 0.0), (4, 0.3)])
def test_hypotheses_are_those_of_the_cpu(
    device: torch.device, make_model: Callable[..., Recogniser], batch: Batch, beam: int, ctc_weight: float
) -> None:
    best = []
    for place in (device, torch.device("cpu")):
        model = make_model(values={"tokenizer.vocabulary": 40}).to(place).eval()
        moved = batch.to(place)
        nbest = decode(model, moved.features, moved.lengths, beam=beam, ctc_weight=ctc_weight, max_length=12)
        best.append([hypotheses[0] for hypotheses in nbest])
    for ours, theirs in zip(*best, strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=1e-3)
        assert ours.tokens == theirs.tokens
