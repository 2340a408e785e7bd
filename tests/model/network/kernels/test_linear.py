from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from model.network.kernels import linear as kernel
from model.network.kernels.linear import MOST_ROWS, Linear
from model.network.recogniser import Recogniser
from model.recipe.files import named_recipe

SIZES = st.sampled_from([1, 2, 3, 8, 17, 40])


class Operators(TorchDispatchMode):
    """The names of torch's operators that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.names.add(str(function))
        return function(*arguments, **(keywords or {}))


def uses_onednn(layer: Linear, x: Tensor) -> bool:
    with Operators() as called:
        layer(x)
    return any("mkldnn._linear_pointwise" in name for name in called.names)


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for which oneDNN is faster."""
    monkeypatch.setattr(kernel, "is_onednn_faster", lambda: True)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, 5), min_size=0, max_size=3), inputs=SIZES, outputs=SIZES, has_bias=st.booleans())
def test_values_are_those_of_torchs_linear(rows: list[int], inputs: int, outputs: int, has_bias: bool) -> None:
    layer = Linear(inputs, outputs, bias=has_bias)
    x = torch.randn(*rows, inputs, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_it_is_for_few_rows_in_fp32_without_gradients() -> None:
    layer, few, many = Linear(4, 3), torch.randn(MOST_ROWS, 1, 4), torch.randn(MOST_ROWS + 1, 4)
    assert not uses_onednn(layer, few), "a gradient may be asked for"
    with torch.inference_mode():
        assert uses_onednn(layer, few)
        assert not uses_onednn(layer, many)
        assert not uses_onednn(layer.double(), few.double())
        layer.float()
        with torch.autocast("cpu", torch.bfloat16):
            assert not uses_onednn(layer, few)


def test_exported_graphs_hold_torchs_own_operators() -> None:
    with torch.no_grad():
        graph = torch.export.export(Linear(4, 3), (torch.randn(2, 4),)).graph
    assert not any("mkldnn" in str(node.target) for node in graph.nodes)


def test_other_processors_keep_what_torch_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "is_onednn_faster", lambda: False)
    with torch.inference_mode():
        assert not uses_onednn(Linear(4, 3), torch.randn(1, 4))


def test_every_linear_layer_of_the_network_is_of_this_kind() -> None:
    model = Recogniser(named_recipe("tiny", "corpus"))
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert linears
    assert all(isinstance(module, Linear) for module in linears)
