"""Two 3 x 3 convolutions of stride 2 with a GELU between, as matrix products over patches, for CPUs.

The activations between the two convolutions are large (2 MB for each frame of a batch of eight), and moving them to
and from memory takes longer than computing them. So the product runs over one piece of one utterance at a time, and
the backward pass computes the first convolution again.
Shapes: B batch, T frames, F mel bins, C channels, S states, R mel bins after both convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.kernels.precision import apply_in_autocast_dtype

Lengths = TypeVar("Lengths", int, Tensor, np.ndarray)

KERNEL, STRIDE = 3, 2
PIECE_STATES = 64  # states computed at a time: their patches fit into a processor's cache
PIECE_FRAMES = 7  # frames that one state is computed from


def convolved_length(length: Lengths, padding: int = 0) -> Lengths:
    """Outputs of one convolution over `length` inputs, with `padding` zeros on either side."""
    return (length + 2 * padding - KERNEL) // STRIDE + 1


def convolve_patches(
    features: Tensor, weight: Tensor, bias: Tensor, second_weight: Tensor, second_bias: Tensor
) -> Tensor:
    """conv2d(gelu(conv2d(features))) without padding: features (B, T, F), weights as in nn.Conv2d -> (B, S, R, C)."""
    return apply_in_autocast_dtype(_PatchConvolutions, features, weight, bias, second_weight, second_bias)


class _PatchConvolutions(torch.autograd.Function):
    """`convolve_patches` in one precision, with gradients for weights and biases but none for the features."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, second_weight: Tensor, second_bias: Tensor
    ) -> Tensor:
        ctx.save_for_backward(features, weight, bias, second_weight)
        B, T, M = features.shape
        S, R = (convolved_length(convolved_length(length)) for length in (T, M))
        out = features.new_empty(B, S, R, weight.shape[0])
        first, second = _to_matrix(weight), _to_matrix(second_weight)
        for frames, states in _pieces(features, out):
            hidden = F.gelu(torch.addmm(bias, _patches(frames[..., None]), first))
            torch.addmm(second_bias, _patches(_to_image(hidden, frames)), second, out=states)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, second_weight = ctx.saved_tensors
        first, second = _to_matrix(weight), _to_matrix(second_weight)
        grad_first, grad_second, grad_bias = (
            torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float))
            for tensor in (first, second, bias)
        )
        for frames, grad_states in _pieces(features, grad.contiguous()):
            patches = _patches(frames[..., None])
            before_gelu = torch.addmm(bias, patches, first)
            hidden = _to_image(F.gelu(before_gelu), frames)
            grad_second += _patches(hidden).t() @ grad_states
            grad_hidden = _add_patches(grad_states @ second.t(), hidden.shape)
            grad_before = torch.ops.aten.gelu_backward(grad_hidden.flatten(0, 1), before_gelu)
            grad_first += patches.t() @ grad_before
            grad_bias += grad_before.sum(dim=0)
        grad_weight, grad_second_weight = _to_weight(grad_first, weight), _to_weight(grad_second, second_weight)
        return None, grad_weight, grad_bias.to(bias.dtype), grad_second_weight, grad.sum(dim=(0, 1, 2))


def _pieces(features: Tensor, states: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of each utterance: frames (T', F) of features (B, T, F), and the states (S' * R, C) computed from them."""
    for utterance, its_states in zip(features, states, strict=True):
        for start in range(0, its_states.shape[0], PIECE_STATES):
            piece = its_states[start : start + PIECE_STATES]
            first, frames = start * STRIDE**2, (piece.shape[0] - 1) * STRIDE**2 + PIECE_FRAMES
            yield utterance[first : first + frames], piece.flatten(0, 1)


def _patches(image: Tensor) -> Tensor:
    """The inputs of each output of one convolution: (H, W, C) -> (H' * W', 9 * C)."""
    H, W, C = image.shape
    h, w, c = image.stride()
    size = convolved_length(H), convolved_length(W), KERNEL, KERNEL, C
    return image.as_strided(size, (STRIDE * h, STRIDE * w, h, w, c)).reshape(-1, KERNEL * KERNEL * C)


def _add_patches(patches: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `_patches`: each element of the image (H, W, C) is the sum of its copies in the patches."""
    H, W, C = shape
    rows, columns = convolved_length(H), convolved_length(W)
    patches, image = patches.view(rows, columns, KERNEL, KERNEL, C), patches.new_zeros(shape)
    for row in range(KERNEL):
        for column in range(KERNEL):
            image[row : row + STRIDE * rows - 1 : STRIDE, column : column + STRIDE * columns - 1 : STRIDE] += patches[
                :, :, row, column
            ]
    return image


def _to_image(positions: Tensor, frames: Tensor) -> Tensor:
    """The first convolution's output (T' * F', C) for frames (T, F) -> (T', F', C)."""
    return positions.view(convolved_length(frames.shape[0]), convolved_length(frames.shape[1]), -1)


def _to_matrix(weight: Tensor) -> Tensor:
    """nn.Conv2d's weight (C', C, 3, 3) -> (9 * C, C'), rows in the order of a patch."""
    return weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])


def _to_weight(matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_to_matrix`, with shape and precision of `like`."""
    return matrix.view(KERNEL, KERNEL, like.shape[1], like.shape[0]).permute(3, 2, 0, 1).to(like.dtype)
