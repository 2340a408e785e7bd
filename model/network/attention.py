"""Multi-head attention: with relative positions for the encoder, with a key/value cache for the decoder.

Shapes: B batch, T encoder frames or keys, U tokens or queries, H heads, E width of one head, D = H * E.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.kernels.dropout import dropout


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, E)."""
    B, T, D = x.shape
    return x.view(B, T, heads, D // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, E) -> (B, T, D)."""
    B, H, T, E = x.shape
    return x.transpose(1, 2).reshape(B, T, H * E)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float) -> Tensor:
    """Attention with scale E^-0.5 and dropout `p` of its weights: q (B, H, U, E), k, v (B, H, T, E) -> (B, H, U, E).

    `bias` is added to the scores (B, H, U, T), as `masking` is. On a CPU torch's fused kernel knows no dropout and
    falls back to steps slower than these.
    """
    if p == 0.0 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, bias, p)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    weights = (scores if bias is None else scores + bias).softmax(dim=-1)
    return torch.matmul(dropout(weights, p), v)


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


class Past:
    """Keys and values (N, H, P, E) of the tokens so far, of N hypotheses; room for more is made ahead of time."""

    keys: Tensor
    values: Tensor
    tokens = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add one token's, (N, H, 1, E) each; those of all tokens are returned."""
        if self.tokens == 0:
            self.keys, self.values = (_roomier(one, 0, 16) for one in (key, value))
        elif self.tokens == self.keys.shape[2]:
            self.keys, self.values = (_roomier(one, self.tokens, self.tokens) for one in (self.keys, self.values))
        self.keys[:, :, self.tokens] = key[:, :, 0]
        self.values[:, :, self.tokens] = value[:, :, 0]
        self.tokens += 1
        return self.keys[:, :, : self.tokens], self.values[:, :, : self.tokens]

    def select(self, rows: Tensor) -> None:
        """Let hypothesis n go on from `rows[n]`."""
        self.keys, self.values = self.keys[rows], self.values[rows]


def _roomier(kept: Tensor, tokens: int, more: int) -> Tensor:
    """The first `tokens` of (N, H, P, E) in room for `more` of them."""
    N, H, _, E = kept.shape
    room = kept.new_empty(N, H, tokens + more, E)
    room[:, :, :tokens] = kept[:, :, :tokens]
    return room


class CausalAttention(nn.Module):
    """The decoder's self-attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """x (B, U, D) -> (B, U, D). With a past, U must be 1: a token sees every earlier one, and no mask is needed."""
        q, k, v = (split_heads(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        if past is not None:
            k, v = past.append(k, v)
        attended = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=past is None
        )
        return self.out(join_heads(attended))


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
        return split_heads(key, self.heads).contiguous(), split_heads(value, self.heads).contiguous()

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x (B, U, D), keys and values (B, H, T, E), mask (B, 1, 1, T) of `masking` -> (B, U, D)."""
        q = split_heads(self.query(x), self.heads)
        attended = attend(q, *keys_values, mask.to(q.dtype), self.dropout if self.training else 0.0)
        return self.out(join_heads(attended))
