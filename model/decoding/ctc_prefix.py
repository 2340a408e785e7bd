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
    """Scores prefixes against `log_probs` (B, S, C), whose padded frames are impossible beyond `lengths` (B,).

    Of N = B * `hypotheses` hypotheses, those of one utterance lie together.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor, blank: int, hypotheses: int = 1) -> None:
        B, S, _ = log_probs.shape
        # Float64: the recursion takes differences of cumulative sums that reach thousands of nats.
        self.log_probs = log_probs.double()
        self.highest = self.log_probs.amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.double).min)
        self.probabilities = (self.log_probs - self.highest).exp()  # of the best frame of each class
        self.utterance = torch.arange(B, device=log_probs.device).repeat_interleave(hypotheses)
        self.outside = (torch.arange(S, device=lengths.device) >= lengths[:, None])[self.utterance]
        self.blank_probs = self.log_probs[self.utterance, :, blank]

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
        scores = self._summed_over_frames(before)
        # A repeated token needs a blank between: only paths that end in a blank may go on with the last token.
        own = self.log_probs[self.utterance, :, state.last.clamp_min(0)]
        after_blank = (state.by_blank[:, :-1] + own).masked_fill(self.outside, float("-inf")).logsumexp(dim=1)
        repeated = torch.arange(scores.shape[1], device=scores.device) == state.last[:, None]
        return torch.where(repeated, after_blank[:, None], scores)

    def extend(self, state: PrefixState, tokens: Tensor, scores: Tensor) -> PrefixState:
        """The state after hypothesis n took `tokens[n]`, whose score was `scores[n]`."""
        own = self.log_probs[self.utterance, :, tokens]
        both = torch.logaddexp(state.by_token, state.by_blank)
        before = torch.where((tokens == state.last)[:, None], state.by_blank, both)[:, :-1]
        by_token = _linear_recursion(own, before + own)
        by_blank = _linear_recursion(self.blank_probs, by_token[:, :-1] + self.blank_probs)
        return PrefixState(by_token, by_blank, tokens, scores)

    def _summed_over_frames(self, before: Tensor) -> Tensor:
        """log sum_s exp(before[n, s] + log_probs[n, s, c]) as one matrix product: (N, S) -> (N, C)."""
        (B, S, C), N = self.probabilities.shape, before.shape[0]
        highest = before.amax(dim=1, keepdim=True).clamp_min(torch.finfo(before.dtype).min)
        shares = (before - highest).exp().view(B, N // B, S)
        product = torch.bmm(shares, self.probabilities).log() + self.highest
        return product.view(N, C) + highest


def _linear_recursion(stay: Tensor, enter: Tensor) -> Tensor:
    """r[0] = -inf, r[t] = logaddexp(r[t-1] + stay[t], enter[t]): (N, S), (N, S) -> (N, S+1)."""
    kept = stay.cumsum(dim=1)
    r = kept + torch.logcumsumexp(enter - kept, dim=1)
    return torch.cat((r.new_full((r.shape[0], 1), float("-inf")), r), dim=1)
