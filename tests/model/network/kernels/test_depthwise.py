from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.kernels.depthwise import DepthwiseConvolution


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 12),
    channels=st.integers(1, 5),
    kernel=st.sampled_from([1, 3, 31]),
)
def test_values_and_gradients_are_those_of_torchs_convolution(
    batch: int, frames: int, channels: int, kernel: int
) -> None:
    torch.manual_seed(frames)
    convolution = DepthwiseConvolution(channels, kernel).double()
    x = torch.randn(batch, frames, channels, dtype=torch.double, requires_grad=True)
    actual = convolution(x)
    expected = F.conv1d(
        x.transpose(1, 2), convolution.weight, convolution.bias, padding=kernel // 2, groups=channels
    ).transpose(1, 2)
    torch.testing.assert_close(actual, expected)
    inputs, weights = (x, convolution.weight, convolution.bias), torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((actual * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("channels", [4, 16])
def test_autocast_decides_the_precision_of_the_output_not_of_the_gradients(channels: int) -> None:
    torch.manual_seed(0)
    convolution, x = DepthwiseConvolution(channels, 3), torch.randn(2, 9, channels)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolution(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), convolution(x), atol=0.03, rtol=0.03)
    y.float().sum().backward()
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.dtype == torch.float32
