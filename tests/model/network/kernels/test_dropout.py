from __future__ import annotations

import pytest
import torch
from torch import nn

from model.network.kernels.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_the_share_of_zeros_is_p_and_the_rest_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    calls = [dropout(torch.ones(300, 333), p) for _ in range(100)]  # a count that no draw divides
    zeros = [float((dropped == 0).double().mean()) for dropped in calls]
    assert all(share == pytest.approx(p, abs=1 / 256 + 0.01) for share in zeros)
    assert sum(zeros) / 100 == pytest.approx(p, abs=0.001)
    assert all(float(dropped.double().mean()) == pytest.approx(1.0, abs=0.02 / (1 - p) ** 0.5) for dropped in calls)


def test_elements_of_one_draw_are_independent() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(250_000, 8), 0.5) > 0).double()
    correlation = torch.corrcoef(kept.t()) - torch.eye(8)
    assert correlation.abs().max() < 5 / 250_000**0.5


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    y = dropout(x, 0.3)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad == 0, y == 0)
    torch.testing.assert_close(grad * x, y)


def test_torch_s_seed_decides_what_is_dropped() -> None:
    x = torch.ones(33)
    torch.manual_seed(4)
    first = dropout(x, 0.5)
    assert not torch.equal(dropout(x, 0.5), first)
    torch.manual_seed(4)
    assert torch.equal(dropout(x, 0.5), first)


def test_evaluation_drops_nothing() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.9).eval()(x) is x
    assert isinstance(Dropout(0.9), nn.Dropout)
