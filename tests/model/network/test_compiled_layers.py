"""The layers that `training.compile` compiles, as GPUs run them: few graphs, whatever the batches' shapes are.

torch traces them here without generating code. What the CPU computes otherwise (its own dropout, and convolutions whose
gradient has a loop over utterances) is replaced by what GPUs compute.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from model.network import attention
from model.network.kernels import dropout as kernel
from model.network.kernels.depthwise import DepthwiseConvolution
from model.network.losses import Counts
from model.network.recogniser import Recogniser
from model.training.run import compile_layers

SHAPES = ((3, 200, 9), (5, 260, 7), (2, 330, 12), (8, 150, 5), (4, 301, 6), (6, 77, 3))  # utterances, frames, labels


@pytest.fixture(autouse=True)
def as_on_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def convolve(self: DepthwiseConvolution, x: Tensor) -> Tensor:
        return nn.Conv1d.forward(self, x.transpose(1, 2)).transpose(1, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, bias, p)

    monkeypatch.setattr(DepthwiseConvolution, "forward", convolve)
    monkeypatch.setattr(attention, "attend", attend)
    monkeypatch.setattr(kernel, "dropout", F.dropout)
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def run_batches(model: Recogniser, shapes: tuple[tuple[int, int, int], ...]) -> int:
    """Graphs that were made in training and scoring batches of these shapes."""
    for utterances, frames, tokens in shapes:
        features, lengths = torch.randn(utterances, frames, 80), torch.full((utterances,), frames)
        labels = torch.randint(4, 30, (utterances, tokens))
        losses = model.train()(features, lengths, labels, Counts(utterances, utterances * tokens))
        losses.total.backward()
        with torch.inference_mode():
            model.eval().loss(features, lengths, labels)
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


@pytest.mark.slow
def test_a_kind_of_layer_is_compiled_once_for_training_and_once_for_scoring(make_recipe) -> None:
    values = {"encoder.dropout": 0.1, "decoder.dropout": 0.1, "encoder.layers": 3, "decoder.layers": 2}
    model = Recogniser(make_recipe(values))
    compile_layers(model, backend="eager")
    assert run_batches(model, SHAPES) == 4, "encoder and decoder layers, each in training and in scoring"
    # torch gives sizes of one graphs of their own.
    assert run_batches(model, ((1, 120, 5), (1, 140, 6), (2, 150, 1), (2, 160, 1), *SHAPES)) <= 16
