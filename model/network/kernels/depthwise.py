"""Depthwise convolution over time, for activations whose channels lie last.

Shapes: B batch, S frames, C channels, K kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.kernels.precision import apply_in_autocast_dtype

LEAST_CHANNELS = 16  # with fewer, torch's convolution in bf16 takes minutes on processors with units for it


class DepthwiseConvolution(nn.Conv1d):
    """One filter for each channel over time, with zeros around it so that the length stays; K is odd."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, C)."""
        if x.device.type != "cpu":
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        return apply_in_autocast_dtype(_Depthwise, x, *self.parameters())


class _Depthwise(torch.autograd.Function):
    """x (B, S, C), weight (C, 1, K), bias (C,) -> (B, S, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = _convolve(grad, weight.flip(2), None)
        return grad_x, _weight_gradient(x, weight, grad), grad.sum(dim=(0, 1))


def _is_too_narrow(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and x.shape[2] < LEAST_CHANNELS


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, S, C) -> (B, S, C)."""
    if _is_too_narrow(x):
        return _convolve(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)
    # As an image of height 1 whose channels lie last: no copy is made, and torch has fast kernels for that layout.
    image = x.transpose(1, 2)[:, :, None]
    y = F.conv2d(image, weight[:, :, None], bias, padding=(0, weight.shape[2] // 2), groups=weight.shape[0])
    return y[:, :, 0].transpose(1, 2)


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """x and the gradient of the output (B, S, C), weight (C, 1, K) -> the gradient of the weight (C, 1, K)."""
    if _is_too_narrow(x):
        return _weight_gradient(x.float(), weight.float(), grad.float()).to(weight.dtype)
    # For an image of height 1 torch's gradient takes twenty times as long as the convolution; of width 1 it takes half
    # of that, although both inputs are copied for it.
    images = [tensor.transpose(1, 2)[..., None] for tensor in (grad, x)]
    channels, padding, only_weight = weight.shape[0], [weight.shape[2] // 2, 0], [False, True, False]
    _, gradient, _ = torch.ops.aten.convolution_backward(
        *images, weight[..., None], None, [1, 1], padding, [1, 1], False, [0, 0], channels, only_weight
    )
    return gradient[..., 0]
