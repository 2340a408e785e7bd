"""The products over patches against torch's convolutions, values and gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network.kernels.patch_convolutions import convolve_patches
from model.network.subsampling import SHORTEST_FRAMES


def convolve_by_torch(features: Tensor, *parameters: Tensor) -> Tensor:
    weight, bias, second_weight, second_bias = parameters
    hidden = F.gelu(F.conv2d(features[:, None], weight, bias, stride=2))
    return F.conv2d(hidden, second_weight, second_bias, stride=2).permute(0, 2, 3, 1)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.one_of(st.integers(SHORTEST_FRAMES, 40), st.sampled_from([255, 260, 263])),  # more than 64 states
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
    expected, actual = convolve_by_torch(features, *parameters), convolve_patches(features, *parameters)
    torch.testing.assert_close(actual, expected)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.double)
    for ours, theirs in zip(
        torch.autograd.grad((actual * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
