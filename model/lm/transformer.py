"""A small Transformer language model: pre-norm layers of causal self-attention, made of parts of the decoder.

Shapes: B sentences, N hypotheses, U tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from model.network.attention import CausalAttention
from model.network.decoder import token_position_encoding
from model.network.kernels.dropout import Dropout
from model.network.kv_cache import KVCache
from model.recipe.architecture import Count, Share
from model.strict import Strict


class TransformerLmConfig(Strict):
    """The sizes of a Transformer language model."""

    layers: Count = 4
    width: Count = 256
    heads: Count = 4
    feed_forward: Count = 1024
    dropout: Share = 0.1

    @model_validator(mode="after")
    def _check_consistency(self) -> TransformerLmConfig:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width is {self.width} with {self.heads} heads, but must be a multiple of {2 * self.heads}"
            )
        return self


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each behind a layer norm and added to the residual stream."""

    def __init__(self, config: TransformerLmConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_self, self.attention = nn.LayerNorm(width), CausalAttention(width, config.heads, config.dropout)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.feed_forward), nn.GELU(approximate="tanh"), nn.Linear(config.feed_forward, width)
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """x (B, U, D) -> (B, U, D); with a cache U is 1, and the cache grows by the token."""
        x = x + self.dropout(self.attention(self.norm_self(x), cache))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class TransformerLm(nn.Module):
    """A TokenScorer, in eval mode. Token embeddings are the output layer's weights, too (arXiv 1608.05859)."""

    def __init__(self, vocabulary: int, config: TransformerLmConfig) -> None:
        super().__init__()
        self.vocabulary, self.config = vocabulary, config
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, caches: list[KVCache] | None = None) -> Tensor:
        """Token ids (B, U), bos first -> logits (B, U, V) of the token after each; with caches U is 1."""
        width, first = self.config.width, caches[0].length if caches else 0
        positions = token_position_encoding(first, tokens.shape[1], width, tokens.device)
        x = self.dropout(self.embedding(tokens) * math.sqrt(width) + positions)
        for index, layer in enumerate(self.layers):
            x = layer(x, caches[index] if caches else None)
        return F.linear(self.norm(x), self.embedding.weight)

    def start(self) -> TransformerState:
        return TransformerState(self)


class TransformerState:
    """The keys and values of each hypothesis' tokens, in every layer."""

    def __init__(self, model: TransformerLm) -> None:
        self.model = model
        self.caches = [KVCache() for _ in model.layers]

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        log_probs: Tensor = self.model(tokens[:, None], self.caches)[:, 0].float().log_softmax(dim=-1)
        return log_probs

    def select(self, rows: Tensor) -> None:
        for cache in self.caches:
            cache.select(rows)
