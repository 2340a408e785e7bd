"""Pre-norm Transformer decoder with cross-attention, and classifiers on any of its layers (arXiv 2508.08938).

Shapes: B batch, U tokens, K hypotheses an utterance, T encoder frames, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from model.network.attention import CausalAttention, CrossAttention, padding_bias
from model.network.kernels.dropout import Dropout
from model.network.kernels.linear import Linear
from model.network.kv_cache import KVCache
from model.network.layer_drop import skip_layer
from model.recipe.architecture import DecoderConfig

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class CrossAttentionMemory:
    """What cross-attention reads of an utterance: keys and values (B, H, T, E) of every layer, bias (B, 1, 1, T)."""

    keys_values: list[KeysValues]
    bias: Tensor

    def select(self, utterances: Tensor) -> CrossAttentionMemory:
        """That of the `utterances` (N,), which are a part of the batch."""
        keys_values = [(keys[utterances], values[utterances]) for keys, values in self.keys_values]
        return CrossAttentionMemory(keys_values, self.bias[utterances])


def token_position_encoding(first: int, count: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the positions first ... first+count-1, all sines before all cosines: (count, D)."""
    rate = 1.0 / 10000.0 ** (torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.arange(first, first + count, device=device, dtype=torch.float32)[:, None] * rate
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def mix_logits(logits: list[Tensor], weights: Tensor) -> Tensor:
    """Weighted sum of the raw logits (..., V) of N classifiers, with weights (N,) or (N, V): (..., V)."""
    return torch.stack([weight * scores for weight, scores in zip(weights, logits, strict=True)]).sum(dim=0)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each behind a layer norm and added to the residual stream."""

    def __init__(self, config: DecoderConfig, encoder_width: int) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.norm_self, self.attention = nn.LayerNorm(width), CausalAttention(width, config.heads, dropout)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, encoder_width, config.heads, dropout)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            Linear(width, config.feed_forward), nn.GELU(approximate="tanh"), Linear(config.feed_forward, width)
        )
        self.dropout = Dropout(dropout)

    def residual_outputs(self) -> list[nn.Linear]:
        """The last projection of each sublayer, whose output is added to the residual stream."""
        last = self.feed_forward[-1]
        assert isinstance(last, nn.Linear)
        return [self.attention.out, self.cross_attention.out, last]

    def forward(self, x: Tensor, cross: KeysValues | None, bias: Tensor | None) -> Tensor:
        """x (B, U, D) -> (B, U, D). Without `cross` the cross-attention sublayer is skipped: the internal LM."""
        x = x + self.dropout(self.attention(self.norm_self(x)))
        if cross is not None and bias is not None:
            x = x + self.dropout(self.cross_attention(self.norm_cross(x), cross, bias))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))

    def step(self, x: Tensor, cross: KeysValues | None, bias: Tensor | None, cache: KVCache) -> Tensor:
        """One more token of each hypothesis, without dropout: (B, K, D) -> (B, K, D). The cache grows by it.

        Without `cross` the cross-attention sublayer is skipped.
        """
        # K queries to the keys of their utterance, in both: no keys are repeated for each hypothesis.
        x = x + self.attention(self.norm_self(x), cache)
        if cross is not None and bias is not None:
            x = x + self.cross_attention(self.norm_cross(x), cross, bias)
        return x + self.feed_forward(self.norm_feed_forward(x))


class Decoder(nn.Module):
    """Classifier i reads the output of layer placement[i]; the final classifier reads the normalised last output.

    `mixing` holds weights (N,) or (N, V) of the N classifiers, the final one last. Where it is set, decoding sums the
    logits of all classifiers with these weights (`mix_logits`); where it is None, it uses the final classifier alone.
    `skipped` are the layers (1 = first) that the next training step skips (model/network/layer_drop.py).
    """

    mixing: Tensor | None
    skipped: frozenset[int] = frozenset()

    def __init__(self, config: DecoderConfig, placement: tuple[int, ...], encoder_width: int, vocabulary: int) -> None:
        super().__init__()
        self.placement = placement
        self.project = Linear(encoder_width, config.width) if config.project_encoder else nn.Identity()
        encoder_width = config.width if config.project_encoder else encoder_width
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, encoder_width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.auxiliary = nn.ModuleList(Linear(config.width, vocabulary, bias=False) for _ in placement)
        self.final = Linear(config.width, vocabulary, bias=False)
        self.register_buffer("mixing", None, persistent=False)

    def typed_layers(self) -> Iterator[DecoderLayer]:
        """`layers` as what they are, for type checkers."""
        yield from cast(Iterator[DecoderLayer], iter(self.layers))

    def _skips(self, number: int) -> bool:
        return self.training and number in self.skipped

    def prepare_memory(self, states: Tensor, valid: Tensor) -> CrossAttentionMemory:
        """Encoder states (B, T, D'), valid (B, T) false on padding -> what every layer's cross-attention reads."""
        states = self.project(states)
        keys_values = [
            # A skipped layer reads no keys: one frame's keep the list complete, and cost nothing.
            layer.cross_attention.project_states(states[:, :1] if self._skips(number) else states)
            for number, layer in enumerate(self.typed_layers(), start=1)
        ]
        return CrossAttentionMemory(keys_values, padding_bias(valid, states.dtype))

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Token ids (B, U) at positions first, first+1, ... -> (B, U, D)."""
        width = self.embedding.embedding_dim
        positions = token_position_encoding(first, tokens.shape[1], width, tokens.device)
        return self.dropout(self.embedding(tokens) * math.sqrt(width) + positions)

    def layer_outputs(self, tokens: Tensor, memory: CrossAttentionMemory | None) -> list[Tensor]:
        """Token ids (B, U) -> the output of every layer, each (B, U, D), the last one normalised.

        Without memory cross-attention is skipped (internal LM).
        """
        x, outputs = self.embed(tokens), []
        for index, layer in enumerate(self.typed_layers()):
            if self._skips(index + 1):
                x = skip_layer(x, layer)
            else:
                cross = memory.keys_values[index] if memory else None
                x = layer(x, cross, memory.bias if memory else None)
            outputs.append(x)
        return [*outputs[:-1], self.norm(outputs[-1])]

    def classify(self, tokens: Tensor, memory: CrossAttentionMemory | None) -> list[Tensor]:
        """Logits (B, U, V) of the auxiliary classifiers in placement order, the final classifier's last."""
        outputs = self.layer_outputs(tokens, memory)
        auxiliary = [head(outputs[layer - 1]) for head, layer in zip(self.auxiliary, self.placement, strict=True)]
        return [*auxiliary, self.final(outputs[-1])]

    def final_logits(self, tokens: Tensor, memory: CrossAttentionMemory | None) -> Tensor:
        """Logits (B, U, V) of the final classifier; no auxiliary classifier is evaluated."""
        return self.final(self.layer_outputs(tokens, memory)[-1])

    def new_caches(self) -> list[KVCache]:
        """An empty cache for every layer, for `step`."""
        return [KVCache() for _ in self.layers]

    def step(self, tokens: Tensor, memory: CrossAttentionMemory | None, caches: list[KVCache]) -> Tensor:
        """One more token of each hypothesis: ids (B, K) -> logits (B, K, V) of the token after it.

        The caches grow by it. Without memory cross-attention is skipped (internal LM). The logits are the final
        classifier's, or with `mixing` the weighted sum of all.
        """
        B, K = tokens.shape
        x = self.embed(tokens.reshape(B * K, 1), caches[0].length).view(B, K, -1)
        return self.step_embedded(x, memory, caches)

    def step_embedded(self, x: Tensor, memory: CrossAttentionMemory | None, caches: list[KVCache]) -> Tensor:
        """`step` of tokens that are embedded with their positions: (B, K, D) -> (B, K, V)."""
        auxiliary_inputs: list[Tensor] = []
        for number, layer in enumerate(self.typed_layers(), start=1):
            cross = memory.keys_values[number - 1] if memory else None
            x = layer.step(x, cross, memory.bias if memory else None, caches[number - 1])
            if self.mixing is not None and number in self.placement:
                auxiliary_inputs.append(x)
        logits = self.final(self.norm(x))
        if self.mixing is not None:  # only then is an auxiliary classifier evaluated
            auxiliary = [head(states) for head, states in zip(self.auxiliary, auxiliary_inputs, strict=True)]
            logits = mix_logits([*auxiliary, logits], self.mixing)
        return logits
