"""CTC prefix scores of all hypotheses and all next tokens together.

This is algorithm 2 of Watanabe et al., Hybrid CTC/Attention Architecture for End-to-End Speech Recognition (IEEE
JSTSP 2017, MERL TR2017-190).
psi(h) is the probability of all label sequences that start with h: the sum over all CTC paths that collapse to one.
The paper's recursions over time are linear in the probability domain, so here they are cumulative sums (in the log
domain) and there is no loop over frames.
Shapes: B utterances, N hypotheses, S encoder frames, C classes with the blank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CtcPrefixState:
    """The CTC forward variables of N hypotheses.

    `by_token` and `by_blank` (N, S+1) are the log-probabilities of paths that have given the hypothesis after each
    frame and end in its last token, or in a blank; column 0 is before the first frame. `last` (N,) is the last token,
    -1 where there is none. `score` (N,) is log psi(hypothesis).
    """

    by_token: Tensor
    by_blank: Tensor
    last: Tensor
    score: Tensor

    def select(self, rows: Tensor) -> CtcPrefixState:
        """The states of the hypotheses `rows`."""
        return CtcPrefixState(self.by_token[rows], self.by_blank[rows], self.last[rows], self.score[rows])


class CtcPrefixScorer:
    """Scores prefixes against `log_probs` (B, S, C), of which each utterance has `lengths` (B,) frames.

    The N = B * `hypotheses` hypotheses are ordered by utterance.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor, blank: int, hypotheses: int = 1) -> None:
        B, S, _ = log_probs.shape
        self.lengths, self.blank, self.hypotheses = lengths, blank, hypotheses
        # Float64: the recursions take differences of cumulative sums that reach thousands of nats.
        self.log_probs = log_probs.double()
        self.highest = self.log_probs.amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.double).min)
        self.probabilities = (self.log_probs - self.highest).exp()  # relative to the best frame of each class
        self.utterance = torch.arange(B, device=log_probs.device).repeat_interleave(hypotheses)
        self.outside = (torch.arange(S, device=lengths.device) >= lengths[:, None])[self.utterance]
        self.blank_probs = self.log_probs[self.utterance, :, blank]

    def select(self, utterances: Tensor) -> CtcPrefixScorer:
        """The scorer of the `utterances` (N,), which are a part of the batch."""
        return CtcPrefixScorer(self.log_probs[utterances], self.lengths[utterances], self.blank, self.hypotheses)

    def start(self) -> CtcPrefixState:
        """The state of the empty prefix: all frames so far were blanks."""
        N, _S = self.blank_probs.shape
        blanks = torch.cat((self.blank_probs.new_zeros(N, 1), self.blank_probs.cumsum(dim=1)), dim=1)
        never = torch.full_like(blanks, float("-inf"))
        last = torch.full((N,), -1, dtype=torch.long, device=blanks.device)
        return CtcPrefixState(never, blanks, last, blanks.new_zeros(N))

    def scores(self, state: CtcPrefixState) -> Tensor:
        """log psi(hypothesis + class) for every class: (N, C); -inf for a prefix that does not fit into its frames.

        The column of the blank has no meaning.
        """
        before = torch.logaddexp(state.by_token, state.by_blank)[:, :-1].masked_fill(self.outside, float("-inf"))
        scores = self._sum_over_frames(before)
        # A repeated token needs a blank between: only paths that end in a blank may continue with the last token.
        own = self.log_probs[self.utterance, :, state.last.clamp_min(0)]
        after_blank = (state.by_blank[:, :-1] + own).masked_fill(self.outside, float("-inf")).logsumexp(dim=1)
        repeated = torch.arange(scores.shape[1], device=scores.device) == state.last[:, None]
        return torch.where(repeated, after_blank[:, None], scores)

    def extend(self, state: CtcPrefixState, tokens: Tensor, scores: Tensor) -> CtcPrefixState:
        """The state after hypothesis n is continued with `tokens[n]`, where `scores[n]` is its new log psi."""
        own = self.log_probs[self.utterance, :, tokens]
        both = torch.logaddexp(state.by_token, state.by_blank)
        before = torch.where((tokens == state.last)[:, None], state.by_blank, both)[:, :-1]
        by_token = _solve_recursion(own, before + own)
        by_blank = _solve_recursion(self.blank_probs, by_token[:, :-1] + self.blank_probs)
        return CtcPrefixState(by_token, by_blank, tokens, scores)

    def _sum_over_frames(self, before: Tensor) -> Tensor:
        """log sum_s exp(before[n, s] + log_probs[n, s, c]) as one matrix product: (N, S) -> (N, C)."""
        (B, S, C), N = self.probabilities.shape, before.shape[0]
        highest = before.amax(dim=1, keepdim=True).clamp_min(torch.finfo(before.dtype).min)
        shares = (before - highest).exp().view(B, N // B, S)
        product = torch.bmm(shares, self.probabilities).log() + self.highest
        return product.view(N, C) + highest


def _solve_recursion(stay: Tensor, enter: Tensor) -> Tensor:
    """r[0] = -inf, r[t] = logaddexp(r[t-1] + stay[t], enter[t]): (N, S), (N, S) -> (N, S+1)."""
    kept = stay.cumsum(dim=1)
    r = kept + torch.logcumsumexp(enter - kept, dim=1)
    return torch.cat((r.new_full((r.shape[0], 1), float("-inf")), r), dim=1)
