"""Layer drop: a skipped layer's output is its input, its gradient is 0, and scoring never skips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.network.layer_drop import skip_layer
from model.network.recogniser import Recogniser

VALUES: dict[str, Any] = {
    "encoder.layers": 3,
    "encoder.dropout": 0.0,
    "decoder.dropout": 0.0,
    "loss.auxiliary": {"placement": [2], "weights": [0.4]},
    "loss.inter_ctc": {"layers": [1], "weight": 0.4},
}
BATCH = (
    torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)),
    torch.tensor([60, 41]),
    torch.tensor([[5, 6, 1], [7, 1, -100]]),
)


def build(make_recipe, encoder: set[int], decoder: set[int]) -> Recogniser:
    torch.manual_seed(3)
    model = Recogniser(make_recipe(VALUES)).train()
    model.encoder.skipped, model.decoder.skipped = frozenset(encoder), frozenset(decoder)
    return model


def make_identity(model: Recogniser) -> None:
    """Replace the layers that are to be skipped by the identity."""

    def give_input(_layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        return inputs[0]

    for part in (model.encoder, model.decoder):
        for number in part.skipped:
            part.layers[number - 1].register_forward_hook(give_input)
        part.skipped = frozenset()


@pytest.mark.parametrize(
    ("encoder", "decoder"), [({2}, set()), (set(), {2}), ({1, 3}, {1, 4}), ({1, 2, 3}, {1, 2, 3, 4})]
)
def test_a_skipped_layer_is_the_identity_with_a_gradient_of_0(
    make_recipe, encoder: set[int], decoder: set[int]
) -> None:
    model, other = build(make_recipe, encoder, decoder), build(make_recipe, encoder, decoder)
    make_identity(other)
    losses, expected = model.loss(*BATCH), other.loss(*BATCH)
    assert torch.equal(losses.total, expected.total)
    assert torch.equal(losses.per_classifier, expected.per_classifier)
    losses.total.backward()
    expected.total.backward()
    prefixes = [f"encoder.layers.{number - 1}." for number in encoder]
    prefixes += [f"decoder.layers.{number - 1}." for number in decoder]
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name}: DistributedDataParallel would wait for it"
        if name.startswith(tuple(prefixes)):
            assert not parameter.grad.any(), name
        else:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, msg=name)
            assert parameter.grad.any() or name.endswith("key.bias"), "keys' biases have no effect in attention"


def test_scoring_uses_all_layers(make_recipe) -> None:
    model, whole = build(make_recipe, {1, 2}, {2, 4}).eval(), build(make_recipe, set(), set()).eval()
    assert torch.equal(model.loss(*BATCH).total, whole.loss(*BATCH).total)
    assert not torch.equal(model.train().loss(*BATCH).total, whole.loss(*BATCH).total)


def test_a_frozen_layer_that_is_skipped_gets_no_gradient(make_recipe) -> None:
    model = build(make_recipe, {2}, set())
    layer = model.encoder.layers[1].requires_grad_(False)
    x = torch.ones(1, 3, 16, dtype=torch.bfloat16)
    assert skip_layer(x, layer) is x
    assert skip_layer(x, model.encoder.layers[0]).dtype == x.dtype, "float32 weights do not widen bf16 states"
    model.loss(*BATCH).total.backward()
    assert all(parameter.grad is None for parameter in layer.parameters())
