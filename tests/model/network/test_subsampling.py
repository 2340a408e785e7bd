from __future__ import annotations

import pytest
import torch

from model.network.subsampling import Subsampling


@pytest.mark.parametrize("padding", [0, 1])
def test_the_states_are_those_of_the_modules_in_order(padding: int) -> None:
    torch.manual_seed(0)
    subsampling = Subsampling(4, 8, 0.0, padding).eval()
    features = torch.randn(2, 31, 80)
    channel_major = subsampling.convolutions(features[:, None]).transpose(1, 2).flatten(2)
    expected = subsampling.project(subsampling.norm(subsampling.out(channel_major)))
    torch.testing.assert_close(subsampling(features), expected, atol=1e-5, rtol=0)


def test_autocast_decides_the_precision_of_the_products_not_of_the_gradients() -> None:
    torch.manual_seed(0)
    subsampling = Subsampling(4, 8, 0.0, 0)
    features = torch.randn(2, 31, 80)
    expected = subsampling(features)
    with torch.autocast("cpu", torch.bfloat16):
        states = subsampling(features)
    assert states.dtype == torch.bfloat16
    torch.testing.assert_close(states.float(), expected, atol=0.02, rtol=0.05)
    states.float().square().sum().backward()
    gradients = [parameter.grad for parameter in subsampling.parameters()]
    assert {None if gradient is None else gradient.dtype for gradient in gradients} == {torch.float32}
