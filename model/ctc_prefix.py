"""CTC prefix scores for every hypothesis and every next token at once (arXiv 1609.06773, algorithm 2).

The recursions over time are linear in the probability domain, so they are cumulative log-sums and no loop over
frames is left. Shapes: N hypotheses, S encoder frames, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrefixState:
    """Forward log-probabilities of each hypothesis: ending in its last token, and in a blank, after each frame.

    `by_token` and `by_blank` are (N, S+1) with column 0 before the first frame; `score` (N,) is log psi(hypothesis).
    """

    by_token: Tensor
    by_blank: Tensor
    last: Tensor
    score: Tensor

    def select(self, rows: Tensor) -> PrefixState:
        return PrefixState(self.by_token[rows], self.by_blank[rows], self.last[rows], self.score[rows])


class PrefixScorer:
    """Scores prefixes against `log_probs` (N, S, C), whose padded frames are impossible beyond `lengths` (N,)."""

    def __init__(self, log_probs: Tensor, lengths: Tensor, blank: int) -> None:
        # Float64: the recursion takes differences of cumulative sums that reach thousands of nats.
        self.log_probs = log_probs.double()
        frames = torch.arange(log_probs.shape[1], device=lengths.device)
        self.outside = frames >= lengths[:, None]
        self.blank_probs = self.log_probs[..., blank]

    def start(self) -> PrefixState:
        """The empty prefix: only blanks so far."""
        N, _S = self.blank_probs.shape
        blanks = torch.cat((self.blank_probs.new_zeros(N, 1), self.blank_probs.cumsum(dim=1)), dim=1)
        never = torch.full_like(blanks, float("-inf"))
        last = torch.full((N,), -1, dtype=torch.long, device=blanks.device)
        return PrefixState(never, blanks, last, blanks.new_zeros(N))

    def scores(self, state: PrefixState) -> Tensor:
        """log psi(hypothesis + token) for every class: (N, C). A prefix that cannot fit its frames is -inf."""
        before = torch.logaddexp(state.by_token, state.by_blank)[:, :-1].masked_fill(self.outside, float("-inf"))
        scores = _log_product(before, self.log_probs)
        # A repeated token needs a blank between: only paths that end in a blank may go on with the last token.
        repeats = state.last.clamp_min(0)
        own = self.log_probs.gather(2, repeats[:, None, None].expand(-1, self.log_probs.shape[1], 1))[..., 0]
        after_blank = (state.by_blank[:, :-1] + own).masked_fill(self.outside, float("-inf")).logsumexp(dim=1)
        repeated = torch.arange(scores.shape[1], device=scores.device) == state.last[:, None]
        return torch.where(repeated, after_blank[:, None], scores)

    def extend(self, state: PrefixState, tokens: Tensor, scores: Tensor) -> PrefixState:
        """The state after hypothesis n took `tokens[n]`, whose score was `scores[n]`."""
        own = self.log_probs.gather(2, tokens[:, None, None].expand(-1, self.log_probs.shape[1], 1))[..., 0]
        both = torch.logaddexp(state.by_token, state.by_blank)
        before = torch.where((tokens == state.last)[:, None], state.by_blank, both)[:, :-1]
        by_token = _linear_recursion(own, before + own)
        by_blank = _linear_recursion(self.blank_probs, by_token[:, :-1] + self.blank_probs)
        return PrefixState(by_token, by_blank, tokens, scores)

    def select(self, rows: Tensor) -> PrefixScorer:
        """The scorer of other rows, for example of each utterance repeated for its beams."""
        picked = object.__new__(PrefixScorer)
        picked.log_probs, picked.outside = self.log_probs[rows], self.outside[rows]
        picked.blank_probs = self.blank_probs[rows]
        return picked


def _log_product(a: Tensor, b: Tensor) -> Tensor:
    """log sum_s exp(a[n, s] + b[n, s, c]) as one matrix product: (N, S), (N, S, C) -> (N, C)."""
    highest_a = a.amax(dim=1, keepdim=True).clamp_min(torch.finfo(a.dtype).min)
    highest_b = b.amax(dim=1, keepdim=True)
    product = torch.einsum("ns,nsc->nc", (a - highest_a).exp(), (b - highest_b).exp())
    return product.log() + highest_a + highest_b[:, 0]


def _linear_recursion(stay: Tensor, enter: Tensor) -> Tensor:
    """r[0] = -inf, r[t] = logaddexp(r[t-1] + stay[t], enter[t]): (N, S), (N, S) -> (N, S+1)."""
    kept = stay.cumsum(dim=1)
    r = kept + torch.logcumsumexp(enter - kept, dim=1)
    return torch.cat((r.new_full((r.shape[0], 1), float("-inf")), r), dim=1)
