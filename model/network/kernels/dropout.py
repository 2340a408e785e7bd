"""Dropout that costs little on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256  # the random number of an element is a byte


class Dropout(nn.Dropout):
    """In training, elements are zero with probability `p` and the others scaled by 1 / (1 - p); else the identity."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """`F.dropout` in training, any shape, drawn from torch's global generator.

    On a CPU `p` is rounded to a multiple of 1/256, up or down at random so that its mean is `p`, and what is kept is
    scaled by the rounded one: every element keeps its expectation.
    """
    if p == 0.0 or p > 1.0 - 1.0 / LEVELS or x.device.type != "cpu":
        return F.dropout(x, p)
    # torch draws a random number for each element, which takes longer than most of what surrounds it; here one
    # 64-bit number serves eight elements.
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None).view(torch.int8)
    dropped = int(p * LEVELS + float(torch.rand(())))
    kept = torch.ge(
        draws[: x.numel()].view(x.shape), dropped - LEVELS // 2, out=torch.empty_like(x, requires_grad=False)
    )
    return x * kept.mul_(LEVELS / (LEVELS - dropped))
