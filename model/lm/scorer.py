"""What decoding needs of a language model: the log-probabilities of the next token, hypothesis by hypothesis.

An n-gram model, a Transformer and the recogniser's internal language model are all a `TokenScorer`.
Shapes: N hypotheses or sentences, U tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

SENTENCES_TOGETHER = 64


class ScorerState(Protocol):
    """What a language model keeps of N hypotheses that grow token by token."""

    def step(self, tokens: Tensor) -> Tensor:
        """Continue hypothesis n with `tokens[n]`; the log-probabilities of the token after it: (N,) -> (N, V).

        They are in nats, finite, and sum to 1 over V in each row. The first call decides N, and is given bos.
        """

    def select(self, rows: Tensor) -> None:
        """Hypothesis m continues what was hypothesis `rows[m]`, (M,); one that none continues is dropped."""


class TokenScorer(Protocol):
    """A language model over the pieces of one tokenizer."""

    def start(self) -> ScorerState:
        """The state of hypotheses that have no token yet."""


class TextScore(NamedTuple):
    """Summed -log p (nats) of the tokens of a text, and their number, eos counted and bos not."""

    nll: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(nll / tokens)."""
        return math.exp(self.nll / self.tokens)


@torch.inference_mode()
def score_sentences(
    scorer: TokenScorer, sentences: Sequence[Sequence[int]], bos: int, device: torch.device | str = "cpu"
) -> list[TextScore]:
    """The score of each sentence, given as its token ids with the final eos and without bos."""
    order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))  # little of a batch is padding
    scores: dict[int, TextScore] = {}
    for first in range(0, len(order), SENTENCES_TOGETHER):
        rows = order[first : first + SENTENCES_TOGETHER]
        sums = _score_together(scorer, [sentences[row] for row in rows], bos, device)
        scores |= {row: TextScore(nll, len(sentences[row])) for row, nll in zip(rows, sums, strict=True)}
    return [scores[row] for row in range(len(sentences))]


def _score_together(
    scorer: TokenScorer, sentences: Sequence[Sequence[int]], bos: int, device: torch.device | str
) -> list[float]:
    state, nll = scorer.start(), torch.zeros(len(sentences), dtype=torch.double, device=device)
    before = torch.full((len(sentences),), bos, device=device)
    for tokens, is_there in _transpose(sentences, device):
        log_probs = state.step(before)
        nll -= torch.where(is_there, log_probs.gather(1, tokens[:, None])[:, 0].double(), 0.0)
        before = tokens
    values: list[float] = nll.tolist()
    return values


def _transpose(sentences: Sequence[Sequence[int]], device: torch.device | str) -> Iterator[tuple[Tensor, Tensor]]:
    """Token u of each sentence, and whether it has one, for u = 0, 1, ...: (N,), (N,)."""
    for place in range(max(len(sentence) for sentence in sentences)):
        is_there = [place < len(sentence) for sentence in sentences]
        tokens = [sentence[min(place, len(sentence) - 1)] for sentence in sentences]
        yield torch.tensor(tokens, device=device), torch.tensor(is_there, device=device)


def sum_scores(scores: Sequence[TextScore]) -> TextScore:
    """The score of all sentences together."""
    return TextScore(sum(one.nll for one in scores), sum(one.tokens for one in scores))
