"""The recogniser's internal language model as a TokenScorer: its decoder, token by token, without the audio.

There is no one way to take the audio from a decoder that was trained with it. Layer l of the decoder computes

    x <- x + W_l c_l(x) + b_l,     c_l: what the heads of cross-attention read from the encoder's states

and each estimator replaces one term of this sum:

skipped       x <- x: the sublayer is left out (arXiv 2508.08938). `ilm_perplexity` everywhere is of this one.
zeroed        c_l = 0, so x <- x + b_l (Meng et al., arXiv 2011.01991: the context vector of an attention-based
              encoder-decoder is replaced by zeros)
mean context  c_l = a constant of each layer, its mean over the tokens of many utterances (Zeineldeen et al., arXiv
              2104.05544, compare such constants). model/evaluation/ilm_estimators.py measures it

Shapes: N hypotheses, L layers, D width, H heads, E width of one head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.network.decoder import CrossAttentionMemory, Decoder


def make_context_memory(decoder: Decoder, contexts: Sequence[Tensor] | Tensor) -> CrossAttentionMemory:
    """A memory from which every token reads `contexts`, (D,) for each of the L layers, whatever the token is.

    It has a single frame, which then has all of the attention: what is read is its value.
    """
    keys_values = []
    for layer, context in zip(decoder.typed_layers(), contexts, strict=True):
        value = context.view(1, layer.cross_attention.heads, 1, -1)
        keys_values.append((torch.zeros_like(value), value))
    return CrossAttentionMemory(keys_values, decoder.final.weight.new_zeros(1, 1, 1, 1))


def make_zero_memory(decoder: Decoder) -> CrossAttentionMemory:
    """The memory of the estimator `zeroed`."""
    zeros = torch.zeros(len(decoder.layers), *decoder.norm.weight.shape, device=decoder.norm.weight.device)
    return make_context_memory(decoder, zeros)


class InternalLm:
    """A TokenScorer: the decoder with a memory that holds no audio, or without cross-attention where that is None.

    The classifiers are mixed as the decoder mixes them.
    """

    def __init__(self, decoder: Decoder, memory: CrossAttentionMemory | None = None) -> None:
        self.decoder, self.memory = decoder, memory

    def start(self) -> InternalState:
        return InternalState(self.decoder, self.memory)


class InternalState:
    """The keys and values of each hypothesis' tokens, in every layer."""

    def __init__(self, decoder: Decoder, memory: CrossAttentionMemory | None) -> None:
        self.decoder, self.memory, self.caches = decoder, memory, decoder.new_caches()

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        # As N utterances of one hypothesis each, so that any may continue any; the memory of one is every utterance's.
        memory = self.memory and self.memory.select(torch.zeros_like(tokens))
        return self.decoder.step(tokens[:, None], memory, self.caches)[:, 0].float().log_softmax(dim=-1)

    def select(self, rows: Tensor) -> None:
        for cache in self.caches:
            cache.select(rows)
