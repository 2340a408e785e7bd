"""Multi-head attention: with relative positions for the encoder, with a key/value cache for the decoder.

Shapes: B batch, T encoder frames or keys, U tokens or queries, H heads, E width of one head, D = H * E.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.dropout import attend


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, E)."""
    B, T, D = x.shape
    return x.view(B, T, heads, D // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, E) -> (B, T, D)."""
    B, H, T, E = x.shape
    return x.transpose(1, 2).reshape(B, T, H * E)


def relative_positions(frames: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the distances frames-1 ... -(frames-1), sine in even and cosine in odd columns: (2T-1, D)."""
    distance = torch.arange(frames - 1, -frames, -1, device=device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    angle = distance[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class RelativeAttention(nn.Module):
    """Self-attention with relative positions (arXiv 1901.02860): (q_i+u).k_j + (q_i+v).W_p pe(i-j), scaled."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, width // heads))
        self.position_bias = nn.Parameter(torch.empty(heads, width // heads))

    def forward(self, x: Tensor, positions: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), positions (2T-1, D), valid (B, T) true where a frame is no padding -> (B, T, D)."""
        q, k, v = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
        p = split_heads(self.position(positions)[None], self.heads)  # (1, H, 2T-1, E)
        scale = q.shape[-1] ** -0.5
        distance_scores = torch.matmul((q + self.position_bias[:, None]) * scale, p.transpose(-1, -2))
        bias = _by_key(distance_scores) + masking(valid, q.dtype)
        attended = attend(q + self.content_bias[:, None], k, v, bias, self.dropout if self.training else 0.0)
        return self.out(join_heads(attended))


def masking(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores over keys: 0, or beyond all scores where `valid` (B, T) is false: (B, 1, 1, T).

    It is finite, so an utterance without a valid frame attends to all of them alike and never becomes NaN.
    """
    return torch.zeros_like(valid, dtype=dtype).masked_fill(~valid, torch.finfo(dtype).min / 2)[:, None, None, :]


def _by_key(by_distance: Tensor) -> Tensor:
    """(B, H, T, 2T-1) over distances, furthest left first -> (B, H, T, T) over keys: row i is shifted left by T-1-i.

    A view: where a row ends one distance early, the next row starts one key further right.
    """
    B, H, T, W = by_distance.shape
    return by_distance.contiguous().as_strided((B, H, T, T), (H * T * W, T * W, W - 1, 1), T - 1)


class CausalAttention(nn.Module):
    """The decoder's self-attention; `past` keeps keys and values of the tokens so far."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, U, D), past keys and values (B, H, P, E) -> (B, U, D) and the keys and values of all P+U tokens.

        With a past, U must be 1: one token sees every earlier one, so no mask is needed.
        """
        q, k, v = (split_heads(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        attended = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=past is None
        )
        return self.out(join_heads(attended)), (k, v)


class CrossAttention(nn.Module):
    """Attention of tokens to encoder states, whose keys and values are computed once an utterance."""

    def __init__(self, width: int, encoder_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(encoder_width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder states (B, T, D') -> keys and values (B, H, T, E)."""
        key, value = self.key_value(states).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], valid: Tensor) -> Tensor:
        """x (B, U, D), keys and values (B, H, T, E), valid (B, T) -> (B, U, D)."""
        q = split_heads(self.query(x), self.heads)
        attended = attend(q, *keys_values, masking(valid, q.dtype), self.dropout if self.training else 0.0)
        return self.out(join_heads(attended))
