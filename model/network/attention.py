"""Multi-head attention: with relative positions in the encoder, with a key/value cache in the decoder.

Shapes: B batch, T encoder frames or keys, U tokens or queries, H heads, E width of one head, D = H * E.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.kernels.dropout import dropout
from model.network.kernels.linear import Linear
from model.network.kv_cache import KVCache


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, E)."""
    B, T, D = x.shape
    return x.view(B, T, heads, D // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, E) -> (B, T, D)."""
    B, H, T, E = x.shape
    return x.transpose(1, 2).reshape(B, T, H * E)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float) -> Tensor:
    """softmax(q k^T / sqrt(E) + bias) v, with dropout `p` on the weights: q (B, H, U, E), k and v (B, H, T, E).

    `bias` is broadcast to the scores (B, H, U, T). Returns (B, H, U, E).
    """
    if p == 0.0 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, bias, p)
    # torch's fused CPU kernel does not support dropout; its fallback is slower than these three steps.
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    weights = (scores if bias is None else scores + bias).softmax(dim=-1)
    return torch.matmul(dropout(weights, p), v)


def padding_bias(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Bias that masks padded keys: 0 where `valid` (B, T) is true, a large negative number elsewhere; (B, 1, 1, T)."""
    # Finite: an utterance without a valid frame attends to all of them equally, where -inf would give NaN.
    return torch.zeros_like(valid, dtype=dtype).masked_fill(~valid, torch.finfo(dtype).min / 2)[:, None, None, :]


def relative_position_encoding(frames: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the distances frames-1 ... -(frames-1), sine in even and cosine in odd columns: (2T-1, D)."""
    distance = torch.arange(frames - 1, -frames, -1, device=device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    angle = distance[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class RelativeAttention(nn.Module):
    """Self-attention with relative positions (Transformer-XL, arXiv 1901.02860, section 3.3).

    The score of query i and key j is ((q_i + u) . k_j + (q_i + v) . W_p pe(i - j)) / sqrt(E), with the learned biases
    u (`content_bias`) and v (`position_bias`).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.out = Linear(width, width)
        self.position = Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, width // heads))
        self.position_bias = nn.Parameter(torch.empty(heads, width // heads))

    def forward(self, x: Tensor, positions: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, T, D), positions (2T-1, D), valid (B, T) false on padding, None without any -> (B, T, D)."""
        q, k, v = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
        p = split_heads(self.position(positions)[None], self.heads)  # (1, H, 2T-1, E)
        scale = q.shape[-1] ** -0.5
        position_scores = torch.matmul((q + self.position_bias[:, None]) * scale, p.transpose(-1, -2))
        bias = _relative_shift(position_scores)
        if valid is not None:
            bias = bias + padding_bias(valid, q.dtype)
        attended = attend(q + self.content_bias[:, None], k, v, bias, self.dropout if self.training else 0.0)
        return self.out(join_heads(attended))


def _relative_shift(scores: Tensor) -> Tensor:
    """Scores by distance (B, H, T, 2T-1) -> scores by key (B, H, T, T): row i is shifted left by T-1-i."""
    B, H, T, W = scores.shape
    # A view without a copy: with a row stride of W-1 each row starts one distance earlier than the row before.
    return scores.contiguous().as_strided((B, H, T, T), (H * T * W, T * W, W - 1, 1), T - 1)


class CausalAttention(nn.Module):
    """The decoder's self-attention: a token attends to itself and to earlier tokens."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """x (B, U, D) -> (B, U, D). With a cache x is the newest token of U hypotheses, which attend to their own.

        The cache then grows by these tokens.
        """
        q, k, v = (split_heads(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        if cache is not None:
            return self.out(join_heads(cache.attend(q, k, v)))
        p = self.dropout if self.training else 0.0
        return self.out(join_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)))


class CrossAttention(nn.Module):
    """Attention of tokens to encoder states, whose keys and values are computed once for an utterance."""

    def __init__(self, width: int, encoder_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = Linear(width, width)
        self.key_value = Linear(encoder_width, 2 * width)
        self.out = Linear(width, width)

    def project_states(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder states (B, T, D') -> keys and values (B, H, T, E)."""
        key, value = self.key_value(states).chunk(2, dim=-1)
        return split_heads(key, self.heads).contiguous(), split_heads(value, self.heads).contiguous()

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """x (B, U, D), keys and values (B, H, T, E), bias (B, 1, 1, T) from `padding_bias` -> (B, U, D)."""
        q = split_heads(self.query(x), self.heads)
        attended = attend(q, *keys_values, bias.to(q.dtype), self.dropout if self.training else 0.0)
        return self.out(join_heads(attended))
