"""Two 3 x 3 convolutions of stride 2 in front of the encoder: log-mel frames to a quarter of as many states.

On a CPU both convolutions are matrix products over patches, one utterance at a time, and the backward pass computes
the first one again: what lies between them is 2 MB for each frame of a batch of eight, and moving it to and from
memory takes longer than making it. Elsewhere they are the library's.
Shapes: B batch, T frames, F mel bins, C channels, S states, R = F subsampled, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.kernels.dropout import Dropout
from model.network.kernels.precision import in_asked_precision
from model.recipe import architecture

KERNEL, STRIDE = 3, 2


def halved(length: Tensor | int, padding: int = 0) -> Tensor | int:
    """Positions of one convolution over `length`, with `padding` zeros on either side."""
    return (length + 2 * padding - KERNEL) // STRIDE + 1


def subsampled(length: Tensor | int, padding: int = 0) -> Tensor | int:
    """States that are left of `length` frames."""
    return halved(halved(length, padding), padding)


SHORTEST_FRAMES = 7  # one state is left of these
PIECE = 64  # states made at once: what they are made of fits a processor's cache


class Subsampling(nn.Module):
    """Convolutions and GELUs, then a projection to the encoder's width."""

    def __init__(self, channels: int, width: int, dropout: float, padding: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, KERNEL, STRIDE, padding),
            nn.GELU(),
            nn.Conv2d(channels, channels, KERNEL, STRIDE, padding),
            nn.GELU(),
        )
        self.out = nn.Linear(channels * int(subsampled(architecture.MEL_BINS, padding)), width)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) -> (B, S, D)."""
        padding = self.convolutions[0].padding
        if features.device.type == "cpu" and padding == (0, 0):
            x = F.gelu(in_asked_precision(_ByPatches, features, *self.convolutions.parameters()))
        else:
            x = self.convolutions(features[:, None]).permute(0, 2, 3, 1)  # (B, S, R, C)
        # The weights are those of channel-major, frequency-minor states; to turn them around is less than the states.
        weight = self.out.weight.unflatten(1, (x.shape[3], x.shape[2])).transpose(1, 2).flatten(1)
        return self.dropout(self.project(self.norm(F.linear(x.flatten(2), weight, self.out.bias))))


class _ByPatches(torch.autograd.Function):
    """features (B, T, F) -> (B, S, R, C) before the second GELU; weights as nn.Conv2d has them."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, second_weight: Tensor, second_bias: Tensor
    ) -> Tensor:
        ctx.save_for_backward(features, weight, bias, second_weight)
        B, T, M = features.shape
        out = features.new_empty(B, int(subsampled(T)), int(subsampled(M)), weight.shape[0])
        first, second = _matrix(weight), _matrix(second_weight)
        for frames, states in _pieces(features, out):
            hidden = F.gelu(torch.addmm(bias, _patches(frames[..., None]), first))
            torch.addmm(second_bias, _patches(_as_image(hidden, frames)), second, out=states)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, second_weight = ctx.saved_tensors
        first, second = _matrix(weight), _matrix(second_weight)
        grad_first, grad_second, grad_bias = (
            torch.zeros_like(one, dtype=torch.promote_types(one.dtype, torch.float)) for one in (first, second, bias)
        )
        for frames, grad_states in _pieces(features, grad.contiguous()):
            patches = _patches(frames[..., None])
            before = torch.addmm(bias, patches, first)
            hidden = _as_image(F.gelu(before), frames)
            grad_second += _patches(hidden).t() @ grad_states
            grad_hidden = _unpatched(grad_states @ second.t(), hidden.shape)
            grad_before = torch.ops.aten.gelu_backward(grad_hidden.flatten(0, 1), before)
            grad_first += patches.t() @ grad_before
            grad_bias += grad_before.sum(dim=0)
        grad_weight, grad_second_weight = _as_weight(grad_first, weight), _as_weight(grad_second, second_weight)
        return None, grad_weight, grad_bias.to(bias.dtype), grad_second_weight, grad.sum(dim=(0, 1, 2))


def _pieces(features: Tensor, states: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames of a piece of an utterance (T', F) and the states that they make, (S' * R, C): B, T, F and B, S, R, C."""
    for utterance, its_states in zip(features, states, strict=True):
        for start in range(0, its_states.shape[0], PIECE):
            piece = its_states[start : start + PIECE]
            first, frames = start * STRIDE**2, (piece.shape[0] - 1) * STRIDE**2 + SHORTEST_FRAMES
            yield utterance[first : first + frames], piece.flatten(0, 1)


def _patches(image: Tensor) -> Tensor:
    """What each position of a convolution sees: (H, W, C) -> (H' * W', 9 * C)."""
    H, W, C = image.shape
    h, w, c = image.stride()
    size = int(halved(H)), int(halved(W)), KERNEL, KERNEL, C
    return image.as_strided(size, (STRIDE * h, STRIDE * w, h, w, c)).reshape(-1, KERNEL * KERNEL * C)


def _unpatched(patches: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `_patches`: every element of the image is the sum of its places in the patches."""
    H, W, C = shape
    rows, columns = int(halved(H)), int(halved(W))
    patches, image = patches.view(rows, columns, KERNEL, KERNEL, C), patches.new_zeros(shape)
    for row in range(KERNEL):
        for column in range(KERNEL):
            image[row : row + STRIDE * rows - 1 : STRIDE, column : column + STRIDE * columns - 1 : STRIDE] += patches[
                :, :, row, column
            ]
    return image


def _as_image(positions: Tensor, frames: Tensor) -> Tensor:
    """The first convolution's output (T' * F', C) of frames (T, F) -> (T', F', C)."""
    return positions.view(int(halved(frames.shape[0])), int(halved(frames.shape[1])), -1)


def _matrix(weight: Tensor) -> Tensor:
    """nn.Conv2d's weight (C', C, 3, 3) -> (9 * C, C'), in the order of patches."""
    return weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])


def _as_weight(matrix: Tensor, like: Tensor) -> Tensor:
    """The transpose of `_matrix`."""
    return matrix.view(KERNEL, KERNEL, like.shape[1], like.shape[0]).permute(3, 2, 0, 1).to(like.dtype)
