"""Pre-norm Transformer decoder with cross-attention and classifiers on any set of its layers.

Shapes: B batch, U tokens, T encoder frames, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from model.network.attention import CausalAttention, CrossAttention, Past, masking
from model.network.kernels.dropout import Dropout
from model.recipe import architecture

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Audio:
    """What the decoder hears: keys and values of every layer (B, H, T, E), and the mask of padding (B, 1, 1, T)."""

    keys_values: list[KeysValues]
    mask: Tensor


def token_positions(first: int, count: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the positions first ... first+count-1, all sines before all cosines: (count, D)."""
    rate = 1.0 / 10000.0 ** (torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.arange(first, first + count, device=device, dtype=torch.float32)[:, None] * rate
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def mixed(logits: list[Tensor], weights: Tensor) -> Tensor:
    """Raw logits (..., V) of N classifiers, weights (N,) or (N, V) -> their weighted sum, as published checkpoints."""
    return torch.stack([weight * one for weight, one in zip(weights, logits, strict=True)]).sum(dim=0)


class DecoderLayer(nn.Module):
    def __init__(self, sizes: architecture.Decoder, encoder_width: int) -> None:
        super().__init__()
        width, dropout = sizes.width, sizes.dropout
        self.norm_self, self.attention = nn.LayerNorm(width), CausalAttention(width, sizes.heads, dropout)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, encoder_width, sizes.heads, dropout)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, sizes.feed_forward), nn.GELU(approximate="tanh"), nn.Linear(sizes.feed_forward, width)
        )
        self.dropout = Dropout(dropout)

    def residual_outputs(self) -> list[nn.Linear]:
        """The last projection of each sublayer, what is added to the stream."""
        last = self.feed_forward[-1]
        assert isinstance(last, nn.Linear)
        return [self.attention.out, self.cross_attention.out, last]

    def forward(self, x: Tensor, cross: KeysValues | None, mask: Tensor | None) -> Tensor:
        """x (B, U, D) -> (B, U, D). Without `cross` the cross-attention sublayer is skipped: the internal LM."""
        x = x + self.dropout(self.attention(self.norm_self(x)))
        if cross is not None and mask is not None:
            x = x + self.dropout(self.cross_attention(self.norm_cross(x), cross, mask))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))

    def step(self, x: Tensor, cross: KeysValues, mask: Tensor, past: Past) -> Tensor:
        """One token of each of K hypotheses an utterance: (B, K, D) -> (B, K, D), in evaluation.

        In self-attention they are B * K rows with a past each, in cross-attention K queries to the same keys, which
        so are never repeated.
        """
        alone = self.attention(self.norm_self(x).flatten(0, 1)[:, None], past)
        x = x + alone.view_as(x)
        x = x + self.cross_attention(self.norm_cross(x), cross, mask)
        return x + self.feed_forward(self.norm_feed_forward(x))


class Decoder(nn.Module):
    """Classifier i reads the output of layer placement[i]; the final one reads the normalised last output.

    With `mixing`, weights (N,) or (N, V) of the N classifiers with the final one last, decoding uses all of them.
    """

    mixing: Tensor | None

    def __init__(
        self, sizes: architecture.Decoder, placement: tuple[int, ...], encoder_width: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.placement = placement
        self.project = nn.Linear(encoder_width, sizes.width) if sizes.project_encoder else nn.Identity()
        encoder_width = sizes.width if sizes.project_encoder else encoder_width
        self.embedding = nn.Embedding(vocabulary, sizes.width)
        self.dropout = Dropout(sizes.dropout)
        self.layers = nn.ModuleList(DecoderLayer(sizes, encoder_width) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.auxiliary = nn.ModuleList(nn.Linear(sizes.width, vocabulary, bias=False) for _ in placement)
        self.final = nn.Linear(sizes.width, vocabulary, bias=False)
        self.register_buffer("mixing", None, persistent=False)

    def each_layer(self) -> Iterator[DecoderLayer]:
        """The layers, with their type."""
        yield from cast(Iterator[DecoderLayer], iter(self.layers))

    def listen(self, states: Tensor, valid: Tensor) -> Audio:
        """Encoder states (B, T, D'), valid (B, T) -> what every layer's cross-attention needs, computed once."""
        states = self.project(states)
        keys_values = [layer.cross_attention.keys_values(states) for layer in self.each_layer()]
        return Audio(keys_values, masking(valid, states.dtype))

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Token ids (B, U) at positions first, first+1, ... -> (B, U, D)."""
        width = self.embedding.embedding_dim
        positions = token_positions(first, tokens.shape[1], width, tokens.device)
        return self.dropout(self.embedding(tokens) * math.sqrt(width) + positions)

    def outputs(self, tokens: Tensor, audio: Audio | None) -> list[Tensor]:
        """Token ids (B, U) -> the output of every layer, each (B, U, D), the last one normalised."""
        x, outputs = self.embed(tokens), []
        for index, layer in enumerate(self.each_layer()):
            cross = audio.keys_values[index] if audio else None
            x = layer(x, cross, audio.mask if audio else None)
            outputs.append(x)
        return [*outputs[:-1], self.norm(outputs[-1])]

    def classify(self, tokens: Tensor, audio: Audio | None) -> list[Tensor]:
        """Logits (B, U, V) of the auxiliary classifiers in placement order, the final one last."""
        outputs = self.outputs(tokens, audio)
        auxiliary = [head(outputs[layer - 1]) for head, layer in zip(self.auxiliary, self.placement, strict=True)]
        return [*auxiliary, self.final(outputs[-1])]

    def final_logits(self, tokens: Tensor, audio: Audio | None) -> Tensor:
        """Logits (B, U, V) of the final classifier; no auxiliary classifier is evaluated."""
        return self.final(self.outputs(tokens, audio)[-1])

    def start(self) -> list[Past]:
        """The past of every layer before the first token, for `step`."""
        return [Past() for _ in self.layers]

    def step(self, tokens: Tensor, audio: Audio, past: list[Past]) -> Tensor:
        """One more token of every hypothesis: ids (B, K) of K hypotheses an utterance -> logits (B, K, V).

        The past grows by it. The logits are the final classifier's, or with `mixing` the weighted sum of all; only
        then are the auxiliary classifiers evaluated.
        """
        B, K = tokens.shape
        x = self.embed(tokens.reshape(B * K, 1), past[0].tokens).view(B, K, -1)
        heard: list[Tensor] = []  # what the auxiliary classifiers read
        for number, layer in enumerate(self.each_layer(), start=1):
            x = layer.step(x, audio.keys_values[number - 1], audio.mask, past[number - 1])
            if self.mixing is not None and number in self.placement:
                heard.append(x)
        logits = self.final(self.norm(x))
        if self.mixing is not None:
            auxiliary = [head(one) for head, one in zip(self.auxiliary, heard, strict=True)]
            logits = mixed([*auxiliary, logits], self.mixing)
        return logits
