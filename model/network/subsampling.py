"""Two 3 x 3 convolutions of stride 2 in front of the encoder: log-mel frames to a quarter as many states.

Shapes: B batch, T frames, F mel bins, C channels, S states, R mel bins after subsampling, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from model.network.kernels.dropout import Dropout
from model.network.kernels.linear import Linear
from model.network.kernels.patch_convolutions import KERNEL, STRIDE, Lengths, convolve_patches, convolved_length
from model.recipe.architecture import MEL_BINS

SHORTEST_FRAMES = 7  # of these one state is left


def subsampled_length(length: Lengths, padding: int = 0) -> Lengths:
    """States that are left of `length` frames, with `padding` zeros on either side of each convolution's input."""
    return convolved_length(convolved_length(length, padding), padding)


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
        self.out = Linear(channels * subsampled_length(MEL_BINS, padding), width)
        self.norm = nn.LayerNorm(width)
        self.project = Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) -> (B, S, D)."""
        if features.device.type == "cpu" and self.convolutions[0].padding == (0, 0):
            x = F.gelu(convolve_patches(features, *self.convolutions.parameters()))
        else:
            x = self.convolutions(features[:, None]).permute(0, 2, 3, 1)  # (B, S, R, C)
        # `out` is trained on states whose channels come first, (C, R) flattened. Its weight is reordered instead of
        # the states, which are larger.
        weight = self.out.weight.unflatten(1, (x.shape[3], x.shape[2])).transpose(1, 2).flatten(1)
        return self.dropout(self.project(self.norm(F.linear(x.flatten(2), weight, self.out.bias))))
