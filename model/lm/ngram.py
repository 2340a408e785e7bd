"""An n-gram language model, as model/lm/ngram_counts.py estimates it, for many hypotheses at once.

Shapes: N hypotheses, V vocabulary, n_m n-grams of order m.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from model.lm.ngram_counts import estimate_levels


class NgramLm:
    """A TokenScorer. `levels` has for each order the keys (n_m,), shares (n_m,) and backoff (n_{m-1},) of `Level`."""

    def __init__(self, levels: Sequence[tuple[Tensor, Tensor, Tensor]], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.keys, self.shares, self.backoff = ([level[part] for level in levels] for part in range(3))
        # Those that continue context c at an order are its n-grams from starts[c] to starts[c + 1].
        self.starts = [
            torch.searchsorted(keys, torch.arange(len(backoff) + 1, device=keys.device) * vocabulary)
            for keys, backoff in zip(self.keys, self.backoff, strict=True)
        ]
        self.unigrams = self.backoff[0] / vocabulary + torch.zeros(vocabulary, device=self.keys[0].device)
        self.unigrams[self.keys[0]] += self.shares[0]

    @property
    def order(self) -> int:
        return len(self.keys)

    @property
    def sizes(self) -> list[int]:
        """The number of n-grams of each order."""
        return [len(keys) for keys in self.keys]

    @classmethod
    def estimate(cls, sentences: Iterable[Sequence[int]], order: int, vocabulary: int, bos: int) -> NgramLm:
        """The model of sentences of token ids, with their eos and without bos."""
        levels = estimate_levels(sentences, order, vocabulary, bos)
        tensors = [tuple(map(torch.from_numpy, (one.keys, one.shares, one.backoff))) for one in levels]
        return cls([(keys, shares.float(), backoff.float()) for keys, shares, backoff in tensors], vocabulary)

    def to_tensors(self) -> dict[str, Tensor]:
        """The model as tensors with names, for a file."""
        parts = {"keys": self.keys, "shares": self.shares, "backoff": self.backoff}
        return {f"{name}.{order}": part for name, all_ in parts.items() for order, part in enumerate(all_, start=1)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], order: int, vocabulary: int) -> NgramLm:
        """What `to_tensors` gave. Raises a KeyError where a tensor is missing."""
        levels = [
            (tensors[f"keys.{number}"], tensors[f"shares.{number}"], tensors[f"backoff.{number}"])
            for number in range(1, order + 1)
        ]
        return cls(levels, vocabulary)

    def start(self) -> NgramState:
        return NgramState(self)

    def find(self, order: int, contexts: Tensor, tokens: Tensor) -> Tensor:
        """The n-gram of each context and token at an order, -1 where there is none: (N,), (N,) -> (N,)."""
        keys = self.keys[order - 1]
        wanted = contexts * self.vocabulary + tokens
        found = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        return torch.where((keys[found] == wanted) & (contexts >= 0), found, -1)

    def add_order(self, probabilities: Tensor, order: int, contexts: Tensor) -> Tensor:
        """p of an order from p of the one below, (N, V), for the contexts (N,); -1 is one that was never seen."""
        is_seen, rows = contexts >= 0, contexts.clamp_min(0)
        probabilities = probabilities * torch.where(is_seen, self.backoff[order - 1][rows], 1.0)[:, None]
        first, starts = self.starts[order - 1][rows], self.starts[order - 1]
        counts = torch.where(is_seen, starts[rows + 1] - first, 0)
        hypotheses = torch.repeat_interleave(torch.arange(len(contexts), device=contexts.device), counts)
        within = torch.arange(len(hypotheses), device=contexts.device) - (counts.cumsum(0) - counts)[hypotheses]
        places = first[hypotheses] + within
        tokens = self.keys[order - 1][places] % self.vocabulary
        return probabilities.index_put((hypotheses, tokens), self.shares[order - 1][places], accumulate=True)


class NgramState:
    """For each hypothesis the n-grams of its last 0, 1, ... tokens, up to the order less one."""

    def __init__(self, model: NgramLm) -> None:
        self.model = model
        self.contexts: list[Tensor] = []

    def step(self, tokens: Tensor) -> Tensor:
        model = self.model
        root = torch.zeros_like(tokens)
        before = self.contexts or [root, *(root - 1 for _ in range(model.order - 1))]
        self.contexts = [root]
        for order in range(1, model.order):
            self.contexts.append(model.find(order, before[order - 1], tokens))
        probabilities = model.unigrams.expand(len(tokens), -1)
        for order in range(2, model.order + 1):
            probabilities = model.add_order(probabilities, order, self.contexts[order - 1])
        return probabilities.log()

    def select(self, rows: Tensor) -> None:
        self.contexts = [contexts[rows] for contexts in self.contexts]
