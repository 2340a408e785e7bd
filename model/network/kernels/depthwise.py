"""Depthwise convolution over time, for activations whose channels lie last.

Shapes: B batch, S frames, C channels, K kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.kernels.precision import apply_in_autocast_dtype


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
    """x (B, S, C), weight (C, 1, K), bias (C,) -> (B, S, C).

    On a CPU torch's own gradient of the weights takes seven times as long as everything else together.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad, (C, _, K) = grad.contiguous(), weight.shape
        padded = F.pad(x, (0, 0, K // 2, K // 2))
        grad_weight = x.new_zeros(K, C)
        for utterance, its_grad in zip(padded, grad, strict=True):
            inputs = utterance.as_strided((K, its_grad.shape[0], C), (C, C, 1))  # what each tap of the filter reads
            grad_weight += (inputs * its_grad).sum(dim=1)
        return _convolve(grad, weight.flip(2), None), grad_weight.t()[:, None], grad.sum(dim=(0, 1))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, S, C) -> (B, S, C)."""
    # As an image of height 1 whose channels lie last: no copy is made, and torch has fast kernels for that layout.
    image = x.transpose(1, 2)[:, :, None]
    y = F.conv2d(image, weight[:, :, None], bias, padding=(0, weight.shape[2] // 2), groups=weight.shape[0])
    return y[:, :, 0].transpose(1, 2)
