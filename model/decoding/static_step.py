"""A step of the decoder in tensors that stay where they are and keep their sizes: what a CUDA graph can replay.

Every step reads the same inputs and writes into the same keys and values; where in them is in tensors too. Sizes are
rounded up, so that searches of other utterances find a step of their size. Nothing here needs a GPU.
Shapes: B utterances, K hypotheses of each, T entries of keys, S encoder frames, H heads, E width of a head, D width,
V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.decoder import CrossAttentionMemory, Decoder
from model.network.kv_cache import KVCache

TOKENS = 32  # that each hypothesis of the smallest step has room for; larger ones have twice as many, and so on
ROOM = 16  # tokens that there is at least room for, once entries that are no longer read were dropped
FRAMES = 64  # multiples of it
UTTERANCES = 16  # multiples of it, and powers of two below


class Shape(NamedTuple):
    """What a step has room for: B, K, T and S."""

    utterances: int
    beam: int
    entries: int
    frames: int


@dataclass(frozen=True)
class StepState:
    """What a search goes on from: keys and values (B, H, T, E) of each layer, which of them each hypothesis reads, bias
    (B, K, T), and tokens so far."""

    keys: list[Tensor]
    values: list[Tensor]
    bias: Tensor
    length: int


class StaticCache(KVCache):
    """Keys and values of one layer, of a fixed size; all layers write at the same `slots` and read by the same bias."""

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor, bias: Tensor) -> None:
        self.keys, self.values, self.slots, self.bias = keys, values, slots, bias

    def attend(self, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the newest tokens, and attend to what `bias` lets each hypothesis read: (B, H, K, E) each -> same."""
        self.keys.index_copy_(2, self.slots, key)
        self.values.index_copy_(2, self.slots, value)
        return F.scaled_dot_product_attention(q, self.keys, self.values, self.bias[:, None])


class StaticStep:
    """One more token of B * K hypotheses: `load` a search, then for each token copy into `tokens`, and `run`.

    `rows` (B * K,) are the hypotheses that the next ones continue, each one of its own utterance; by default itself.
    """

    def __init__(self, decoder: Decoder, shape: Shape) -> None:
        self.decoder, self.shape = decoder, shape
        B, K, T, S = shape
        weight, D = decoder.final.weight, decoder.embedding.embedding_dim
        H = next(decoder.typed_layers()).attention.heads
        # As ordinary tensors: those of inference mode could not be written outside of it.
        with torch.inference_mode(False), torch.no_grad(), torch.device(weight.device):
            self.tokens, self.rows, self._all_rows = torch.zeros(B, K).long(), torch.arange(B * K), torch.arange(B * K)
            self.bias, self._slots = torch.zeros(B, K, T), torch.arange(K)
            self._own = torch.zeros(K, K).masked_fill_(~torch.eye(K, dtype=torch.bool), float("-inf")).expand(B, K, K)
            self._position = torch.zeros(())
            self._rate = 1.0 / 10000.0 ** (torch.arange(0, D, 2, dtype=torch.float32) / D)
            shapes = (B, H, T, D // H), (B, H, S, D // H)
            own, read = ([weight.new_zeros(2, *size) for _ in decoder.layers] for size in shapes)
            self.caches: list[KVCache] = [StaticCache(keys, values, self._slots, self.bias) for keys, values in own]
            pairs = [(keys, values) for keys, values in read]
            self.memory = CrossAttentionMemory(pairs, weight.new_zeros(B, 1, 1, S))

    @torch.no_grad()
    def load(self, state: StepState, memory: CrossAttentionMemory) -> None:
        """Go on from a state of at most B utterances, and with what these read of at most S frames."""
        U, K, kept = state.bias.shape
        for cache, keys, values in zip(self.caches, state.keys, state.values, strict=True):
            for tensor, content in ((cache.keys, keys), (cache.values, values)):
                tensor.zero_()  # what is not read must still be finite, whatever an earlier search has left
                tensor[:U, :, :kept] = content
        self.bias.fill_(float("-inf"))
        self.bias[:U, :, :kept] = state.bias
        self.rows.copy_(self._all_rows)
        self._slots.copy_(self._all_rows[:K] + kept)
        self._position.fill_(state.length)
        self._load_memory(memory)

    def _load_memory(self, memory: CrossAttentionMemory) -> None:
        U, _, _, frames = memory.bias.shape
        for own, given in zip(self.memory.keys_values, memory.keys_values, strict=True):
            for tensor, content in zip(own, given, strict=True):
                tensor.zero_()
                tensor[:U, :, :frames] = content
        self.memory.bias.fill_(torch.finfo(self.memory.bias.dtype).min / 2)
        self.memory.bias[:U, :, :, :frames] = memory.bias

    @torch.no_grad()
    def run(self) -> Tensor:
        """The logits (B, K, V) of the tokens after `tokens`; the next run overwrites them."""
        self.bias.copy_(self.bias.flatten(0, 1).index_select(0, self.rows).view_as(self.bias))
        self.bias.index_copy_(2, self._slots, self._own)
        angle = self._position * self._rate
        x = self.decoder.embedding(self.tokens) * math.sqrt(2 * len(angle)) + torch.cat((angle.sin(), angle.cos()))
        logits = self.decoder.step_embedded(x, self.memory, self.caches)
        self._slots.add_(self.shape.beam)
        self._position.add_(1.0)
        self.rows.copy_(self._all_rows)
        return logits


class StaticSteps:
    """The steps of one search, each in the static step that has room for it; `get` gives the one of a shape."""

    def __init__(self, get: Callable[[Shape], StaticStep], memory: CrossAttentionMemory, beam: int) -> None:
        self._get, self._beam = get, beam
        self._entries = self._length = 0  # of keys for each utterance, and tokens of each hypothesis
        self._utterances, self._frames = memory.bias.shape[0], memory.bias.shape[3]
        self._static = get(self._fit(0))
        keys = [tensor[:, :, :0] for tensor, _ in memory.keys_values]
        bias = torch.zeros(self._utterances, beam, 0, device=memory.bias.device)
        self._load(StepState(keys, keys, bias, 0), memory)

    def step(self, tokens: Tensor) -> Tensor:
        """One more token of each hypothesis: ids (B, K) -> logits (B, K, V), until the next step."""
        if self._entries + self._beam > self._static.shape.entries:
            self._move(self._static.rows[: self._utterances * self._beam], None)
        self._static.tokens[: self._utterances] = tokens
        self._entries, self._length = self._entries + self._beam, self._length + 1
        return self._static.run()[: self._utterances]

    def select(self, rows: Tensor, utterances: Tensor | None) -> None:
        """Hypothesis n continues what was hypothesis `rows[n]`, of its own utterance; of some `utterances` only."""
        if utterances is None:
            self._static.rows[: len(rows)] = rows
        else:
            self._move(rows, utterances)

    def _move(self, rows: Tensor, utterances: Tensor | None) -> None:
        """Go on with the entries that these hypotheses read, in a step that has room for more."""
        before = self._static
        bias = before.bias.flatten(0, 1)[rows].view(-1, self._beam, before.shape.entries)[:, :, : self._entries]
        if utterances is None:
            utterances = torch.arange(self._utterances, device=rows.device)
        is_read = (bias == 0.0).any(dim=1)  # (B, T)
        kept = int(is_read.sum(dim=1).max())
        places = is_read.byte().argsort(dim=1, descending=True, stable=True)[:, :kept]

        def gather(tensor: Tensor) -> Tensor:
            tensor = tensor[utterances]
            return tensor.gather(2, places[:, None, :, None].expand(-1, tensor.shape[1], kept, tensor.shape[3]))

        keys, values = ([gather(getattr(cache, name)) for cache in before.caches] for name in ("keys", "values"))
        state = StepState(keys, values, bias.gather(2, places[:, None].expand(-1, self._beam, kept)), self._length)
        # Copied before the next step is loaded: that may be the same one.
        memory = before.memory.select(utterances)
        self._utterances = len(utterances)
        self._static = self._get(self._fit(kept))
        self._load(state, memory)

    def _load(self, state: StepState, memory: CrossAttentionMemory) -> None:
        self._static.load(state, memory)
        self._entries, self._length = state.bias.shape[2], state.length

    def _fit(self, kept: int) -> Shape:
        """The shape of a step that has room for these utterances, and beside `kept` entries for `ROOM` tokens."""
        B, tokens = self._utterances, TOKENS
        while kept + self._beam * ROOM > self._beam * tokens:
            tokens *= 2
        B = 1 << (B - 1).bit_length() if B < UTTERANCES else -(-B // UTTERANCES) * UTTERANCES
        return Shape(B, self._beam, self._beam * tokens, -(-self._frames // FRAMES) * FRAMES)
