"""Decoding by brute force: every CTC path and every hypothesis, for models of a few tokens and frames."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from model.network.recogniser import EncoderOutput
from model.recipe.architecture import SpecialTokens

Tokens = tuple[int, ...]
PAD = 4
VOCABULARY = 5  # four tokens and pad
SPECIAL = SpecialTokens(bos=0, eos=1, unk=2, pad=PAD)


def prefix_probabilities(probabilities: Sequence[Sequence[float]], blank: int) -> dict[Tokens, float]:
    """psi of every possible prefix: the summed probability of all CTC paths whose labels start with it.

    `probabilities` are those of every class at every frame; a prefix that no path gives is not in the result.
    """
    psi: dict[Tokens, float] = defaultdict(float)
    for path in itertools.product(range(len(probabilities[0])), repeat=len(probabilities)):
        probability = math.prod(frame[label] for frame, label in zip(probabilities, path, strict=True))
        labels = tuple(label for label, _ in itertools.groupby(path) if label != blank)
        for length in range(len(labels) + 1):
            psi[labels[:length]] += probability
    return dict(psi)


@dataclass
class History:
    """In place of a KVCache: the tokens of each hypothesis so far, bos first."""

    tokens: list[Tokens] = field(default_factory=list)

    def append(self, tokens: list[int]) -> list[Tokens]:
        before = self.tokens or [()] * len(tokens)
        self.tokens = [(*history, token) for history, token in zip(before, tokens, strict=True)]
        return self.tokens

    def select(self, rows: Tensor) -> None:
        self.tokens = [self.tokens[row] for row in rows.tolist()]


class RandomModel:
    """As much of a Recogniser as decoding needs, for one utterance: logits are random for each history of tokens.

    With `extra_blank` the CTC blank is a class beyond the vocabulary, else it is pad.
    """

    def __init__(self, seed: int, frames: int, extra_blank: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.special = SPECIAL if extra_blank else SPECIAL.model_copy(update={"blank": PAD})
        self.blank, self.vocabulary = VOCABULARY if extra_blank else PAD, VOCABULARY
        ctc_logits = 2 * torch.randn(1, frames, VOCABULARY + extra_blank, generator=generator)
        self.encoded = EncoderOutput(torch.zeros(1, frames, 1), torch.tensor([frames]), ctc_logits)
        self.logits: dict[Tokens, Tensor] = defaultdict(lambda: 2 * torch.randn(VOCABULARY, generator=generator))
        for length in range(4):  # in a fixed order, so that the seed decides them
            for history in itertools.product(range(VOCABULARY), repeat=length):
                self.logits[(SPECIAL.bos, *history)]
        self.decoder = SimpleNamespace(
            final=SimpleNamespace(out_features=VOCABULARY), new_caches=lambda: [History()], step=self._step
        )

    def prepare_memory(self, encoded: EncoderOutput) -> None:
        return None

    def _step(self, tokens: Tensor, memory: None, caches: list[History]) -> Tensor:
        histories = caches[0].append(tokens.flatten().tolist())
        return torch.stack([self.logits[history] for history in histories]).view(*tokens.shape, VOCABULARY)

    def attention_log_prob(self, tokens: Tokens) -> float:
        """The log-probability of the last of the tokens given those before it."""
        return float(self.logits[(SPECIAL.bos, *tokens[:-1])].double().log_softmax(dim=-1)[tokens[-1]])

    def prefix_probabilities(self) -> dict[Tokens, float]:
        return prefix_probabilities(self.encoded.ctc_logits[0].double().softmax(dim=-1).tolist(), self.blank)


class RandomLm:
    """A TokenScorer whose logits are random for each history of tokens."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def start(self) -> RandomLmState:
        return RandomLmState(self)

    def log_probs(self, history: Tokens) -> Tensor:
        """Of the token after a history, bos first."""
        generator = torch.Generator().manual_seed(hash((self.seed, *history)) % (1 << 40))
        return (2 * torch.randn(VOCABULARY, generator=generator)).log_softmax(dim=-1)


class RandomLmState(History):
    """The histories of a RandomLm's hypotheses."""

    def __init__(self, lm: RandomLm) -> None:
        super().__init__()
        self.lm = lm

    def step(self, tokens: Tensor) -> Tensor:
        return torch.stack([self.lm.log_probs(history) for history in self.append(tokens.tolist())])


class Scores:
    """The documented score of every hypothesis of a RandomModel (model/decoding/beam_search.py).

    `fusion` has language models with their weights (model/decoding/fusion.py).
    """

    def __init__(
        self,
        model: RandomModel,
        ctc_weight: float,
        length_penalty: float,
        fusion: Sequence[tuple[float, RandomLm]] = (),
    ) -> None:
        self.model, self.ctc_weight, self.length_penalty, self.fusion = model, ctc_weight, length_penalty, fusion
        self.psi = model.prefix_probabilities() if ctc_weight else {}
        # With CTC neither pad nor a blank in the vocabulary is ever a token; without it pad is a token like others.
        self.allowed = [token for token in range(VOCABULARY) if token != PAD or not ctc_weight]

    def gain(self, tokens: Tokens) -> float:
        """What the last of the tokens adds to the sum; -inf where CTC gives the tokens probability 0."""
        attention = self.model.attention_log_prob(tokens)
        fused = sum(weight * float(lm.log_probs((SPECIAL.bos, *tokens[:-1]))[tokens[-1]]) for weight, lm in self.fusion)
        if not self.ctc_weight:
            return attention + fused
        after, before = self.psi.get(tokens, 0.0), self.psi.get(tokens[:-1], 0.0)
        if after == 0.0:
            return -math.inf
        ctc = math.log(after) - math.log(before)
        return (1 - self.ctc_weight) * attention + self.ctc_weight * ctc + fused

    def score(self, tokens: Tokens) -> float:
        total = sum(self.gain(tokens[:length]) for length in range(1, len(tokens) + 1))
        return total / len(tokens) ** self.length_penalty

    def hypotheses(self, longest: int) -> Iterator[Tokens]:
        """Every hypothesis of at most `longest` tokens: those that end in eos, and those cut off at that length."""
        others = [token for token in self.allowed if token != SPECIAL.eos]
        for length in range(1, longest + 1):
            for start in itertools.product(others, repeat=length - 1):
                yield (*start, SPECIAL.eos)
        yield from itertools.product(others, repeat=longest)

    def ranking(self, longest: int) -> list[tuple[float, Tokens]]:
        """Every possible hypothesis with its score, best first."""
        scored: list[tuple[float, Any]] = [(self.score(tokens), tokens) for tokens in self.hypotheses(longest)]
        return sorted((pair for pair in scored if pair[0] > -math.inf), reverse=True)
