"""Dropout that costs little on a CPU, and the attention that uses it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256  # a draw for one element is a byte


class Dropout(nn.Dropout):
    """Elements are zero with probability `p`, the others scaled by 1 / (1 - p); the identity outside training."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """`F.dropout` in training, by torch's own generator.

    On a CPU torch draws a random number for each element, which takes longer than most of what surrounds it; here one
    64-bit draw serves eight. `p` is then rounded to a multiple of 1/256, up or down by chance so that its mean is `p`,
    and what is kept is scaled by the rounded one: every element keeps its expectation.
    """
    if p == 0.0 or p > 1.0 - 1.0 / LEVELS or x.device.type != "cpu":
        return F.dropout(x, p)
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None).view(torch.int8)
    dropped = int(p * LEVELS + float(torch.rand(())))
    kept = torch.ge(
        draws[: x.numel()].view(x.shape), dropped - LEVELS // 2, out=torch.empty_like(x, requires_grad=False)
    )
    return x * kept.mul_(LEVELS / (LEVELS - dropped))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float) -> Tensor:
    """Attention with scale E^-0.5 and dropout `p` of its weights: q (B, H, U, E), k, v (B, H, T, E) -> (B, H, U, E).

    `bias` is added to the scores (B, H, U, T) and is -inf where a query may not look. On a CPU torch's fused kernel
    knows no dropout and falls back to steps slower than these.
    """
    if p == 0.0 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, bias, p)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    weights = (scores if bias is None else scores + bias).softmax(dim=-1)
    return torch.matmul(dropout(weights, p), v)
