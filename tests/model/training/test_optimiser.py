from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from model.data.batches import Batch
from model.network import encoder
from model.network.kernels import ctc_loss
from model.network.kernels.ctc_recursion import ctc_shares
from model.network.losses import Counts
from model.network.recogniser import Recogniser
from model.recipe.training import OptimiserConfig
from model.training.optimiser import make_optimiser, train_step

SETTINGS = OptimiserConfig(learning_rate=1e-2, warmup_steps=10, decay="linear")


def batch_of(features: torch.Tensor) -> Batch:
    labels = torch.tensor([[5, 6, 1], [7, 1, -100]])
    return Batch(["a", "b"], features, torch.tensor([60, 50]), labels, Counts(2, 5))


def test_biases_norms_and_position_biases_are_not_decayed(make_recipe) -> None:
    model = Recogniser(make_recipe({"loss.auxiliary": {"placement": [2], "weights": [0.3]}}))
    decayed, others = make_optimiser(model, OptimiserConfig(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    left_out = {names[parameter] for parameter in others["params"]}
    assert left_out | {names[parameter] for parameter in decayed["params"]} == set(names.values())
    biases = {name for name in names.values() if name.endswith(("content_bias", "position_bias"))}
    assert len(biases) == 2, "u and v of one encoder layer"
    assert all(dict(model.named_parameters())[name].dim() == 2 for name in biases)
    assert left_out == biases | {name for parameter, name in names.items() if parameter.dim() == 1}


def test_a_step_with_a_non_finite_loss_is_not_taken_and_has_its_figures(make_recipe) -> None:
    model = Recogniser(make_recipe())
    optimiser = make_optimiser(model, SETTINGS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    broken = torch.randn(2, 60, 80)
    broken[0, 3, 3] = float("nan")
    result = train_step(model, [batch_of(broken)], optimiser, 1e-2, 5.0, "fp32")
    assert result.find_fault() == "loss nan, gradient norm nan"
    assert not result.taken
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def step_of_sgd(make_recipe, parts: list[Batch]) -> tuple[float, torch.Tensor]:
    """The loss of a step and how far SGD moves the weights in it, which is the gradient."""
    torch.manual_seed(0)
    model = Recogniser(make_recipe({"encoder.dropout": 0.0, "decoder.dropout": 0.0}))
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)
    losses = train_step(model, parts, optimiser, 1.0, math.inf, "fp32").losses
    loss = sum(float(part.total.detach()) for part in losses)
    return loss, before - nn.utils.parameters_to_vector(model.parameters()).detach()


def test_a_batch_in_parts_takes_the_step_of_the_whole(make_recipe) -> None:
    features = torch.randn(2, 60, 80)
    whole, counts = batch_of(features), Counts(2, 5)

    def split(*counts_of_parts: Counts) -> list[Batch]:
        rows = zip(("a", "b"), (slice(0, 1), slice(1, 2)), counts_of_parts, strict=True)
        return [Batch([key], features[row], whole.lengths[row], whole.labels[row], part) for key, row, part in rows]

    loss, step = step_of_sgd(make_recipe, [whole])
    loss_in_parts, step_in_parts = step_of_sgd(make_recipe, split(counts, counts))
    assert loss_in_parts == pytest.approx(loss, rel=1e-6)
    assert float((step_in_parts - step).norm() / step.norm()) < 1e-5
    # Were each part divided by its own counts, the step would be another one.
    _, mean_of_parts = step_of_sgd(make_recipe, split(Counts(1, 3), Counts(1, 2)))
    assert float((mean_of_parts - step).norm() / step.norm()) > 0.1


def test_bf16_autocast_trains_to_nearly_the_same_loss_and_keeps_weights_in_fp32(make_recipe) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = Recogniser(make_recipe({"encoder.dropout": 0.0, "decoder.dropout": 0.0}))
        features = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1))
        result = train_step(model, [batch_of(features)], make_optimiser(model, SETTINGS), 1e-3, 5.0, precision)
        losses[precision] = float(result.losses[0].total.detach())
        assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


class NoWaiting(TorchDispatchMode):
    """Refuses operations in which a GPU's host would wait: reading a value, and shapes that depend on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "_ctc_loss.Tensor")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.")
        indices = args[1] if name.startswith("index") and isinstance(args[1], list) else []
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        waits = by_mask or name.startswith(self.WAITS)
        assert not waits, f"{name} waits for the device"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("scheduled", [False, True])
def test_nothing_within_a_step_waits_for_the_device(
    make_recipe, monkeypatch: pytest.MonkeyPatch, scheduled: bool
) -> None:
    def by_labels(log_probs: torch.Tensor, frames: torch.Tensor, targets: ctc_loss.CtcTargets):
        return ctc_shares(log_probs, frames, targets.classes, targets.lengths)

    # As on GPUs: the recursion over labels, and a mask whether or not a frame is padding.
    monkeypatch.setattr(ctc_loss, "torch_shares", by_labels)
    monkeypatch.setattr(encoder, "_valid_unless_all", encoder.valid_frame_mask)
    auxiliary = {"loss.auxiliary": {"placement": [1], "weights": [0.3]}}
    model = Recogniser(make_recipe({"encoder.dropout": 0.0, "decoder.dropout": 0.0} | auxiliary))
    if scheduled:
        model.auxiliary_factor, model.ctc_weight, model.decoder.skipped = 0.4, 0.2, frozenset({1, 4})
    optimiser = make_optimiser(model, SETTINGS)
    batch = batch_of(torch.randn(2, 60, 80))
    train_step(model, [batch], optimiser, 1e-2, 5.0, "fp32")  # the first step makes the optimiser's state
    with NoWaiting():
        result = train_step(model, [batch], optimiser, 1e-2, 5.0, "fp32")
    assert result.find_fault() is None
    with NoWaiting(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        result.losses[0].total.item()
