"""The products over patches against the library's convolutions, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network.subsampling import SHORTEST_FRAMES, Subsampling, _ByPatches


def by_convolutions(features: Tensor, *parameters: Tensor) -> Tensor:
    weight, bias, second_weight, second_bias = parameters
    hidden = F.gelu(F.conv2d(features[:, None], weight, bias, stride=2))
    return F.conv2d(hidden, second_weight, second_bias, stride=2).permute(0, 2, 3, 1)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(SHORTEST_FRAMES, 40),
    bins=st.integers(SHORTEST_FRAMES, 20),
    channels=st.integers(1, 6),
)
def test_patches_give_the_values_and_gradients_of_the_convolutions(
    batch: int, frames: int, bins: int, channels: int
) -> None:
    generator = torch.Generator().manual_seed(frames * 100 + bins)
    shapes = (channels, 1, 3, 3), (channels,), (channels, channels, 3, 3), (channels,)
    parameters = [
        torch.randn(shape, generator=generator, dtype=torch.double, requires_grad=True)
        for shape in shapes  # float64: what differs is then an error, not rounding
    ]
    features = torch.randn(batch, frames, bins, generator=generator, dtype=torch.double)
    expected, got = by_convolutions(features, *parameters), _ByPatches.apply(features, *parameters)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.double)
    for one, other in zip(
        torch.autograd.grad((got * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


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
    assert {one.grad.dtype for one in subsampling.parameters() if one.grad is not None} == {torch.float32}
