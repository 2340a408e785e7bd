"""CTC prefix scores of all hypotheses together, of every next token or of some.

This is algorithm 2 of Watanabe et al., Hybrid CTC/Attention Architecture for End-to-End Speech Recognition (IEEE
JSTSP 2017, MERL TR2017-190).
psi(h) is the probability of all label sequences that start with h: the sum over all CTC paths that collapse to one.
The paper's recursions over time are linear in the probability domain, so here they are cumulative sums (in the log
domain) and there is no loop over frames.
Shapes: B utterances, N hypotheses, S encoder frames, C classes with the blank, P pairs of a hypothesis and a class.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-4  # nats, more than float32 adds to a sum of frames
SMALLEST = 1e-18  # its square is no denormal number in float32: processors are a hundred times slower with these


@dataclass(frozen=True)
class CtcPrefixState:
    """The CTC forward variables of N hypotheses, in float64: they are differences of sums of thousands of nats.

    `by_token` and `by_blank` (N, S+1) are the log-probabilities of paths that have given the hypothesis after each
    frame and end in its last token, or in a blank; column 0 is before the first frame. `last` (N,) is the last token,
    -1 where there is none. `score` (N,) is log psi(hypothesis).
    """

    by_token: Tensor
    by_blank: Tensor
    last: Tensor
    score: Tensor

    @functools.cached_property
    def before(self) -> Tensor:
        """Log-probabilities of all paths that have given the hypothesis before each frame: (N, S)."""
        return torch.logaddexp(self.by_token, self.by_blank)[:, :-1]

    def select(self, rows: Tensor) -> CtcPrefixState:
        """The states of the hypotheses `rows`."""
        return CtcPrefixState(self.by_token[rows], self.by_blank[rows], self.last[rows], self.score[rows])


class CtcPrefixScorer:
    """Scores prefixes against `log_probs` (B, S, C), of which each utterance has `lengths` (B,) frames.

    The N = B * `hypotheses` hypotheses are ordered by utterance.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor, blank: int, hypotheses: int = 1) -> None:
        # (B, C, S): the frames of a class lie together, since most of the time few classes are asked for.
        self._setup(log_probs.transpose(1, 2).contiguous(), lengths, blank, hypotheses)

    def _setup(self, log_probs: Tensor, lengths: Tensor, blank: int, hypotheses: int) -> None:
        B, _, S = log_probs.shape
        self.log_probs, self.lengths, self.blank, self.hypotheses = log_probs, lengths, blank, hypotheses
        self.highest = log_probs.amax(dim=2).clamp_min(torch.finfo(log_probs.dtype).min)  # (B, C)
        self.utterance = torch.arange(B, device=log_probs.device).repeat_interleave(hypotheses)
        self.outside = (torch.arange(S, device=lengths.device) >= lengths[:, None])[self.utterance]
        self.blank_log_probs = log_probs[self.utterance, blank].double()

    def select(self, utterances: Tensor) -> CtcPrefixScorer:
        """The scorer of the `utterances` (N,), which are a part of the batch."""
        scorer = CtcPrefixScorer.__new__(CtcPrefixScorer)
        scorer._setup(self.log_probs[utterances], self.lengths[utterances], self.blank, self.hypotheses)
        return scorer

    def start(self) -> CtcPrefixState:
        """The state of the empty prefix: all frames so far were blanks."""
        N, _S = self.blank_log_probs.shape
        blanks = torch.cat((self.blank_log_probs.new_zeros(N, 1), self.blank_log_probs.cumsum(dim=1)), dim=1)
        never = torch.full_like(blanks, float("-inf"))
        last = torch.full((N,), -1, dtype=torch.long, device=blanks.device)
        return CtcPrefixState(never, blanks, last, blanks.new_zeros(N))

    def gains(self, state: CtcPrefixState) -> Tensor:
        """log psi(hypothesis + class) - log psi(hypothesis) for every class: (N, C), at most 0.

        It is -inf for a prefix that does not fit into its frames. The column of the blank has no meaning.
        """
        sums = self._sum_over_frames(self._inside(state.before))
        if len(state.last) and int(state.last.amax()) >= 0:
            rows = torch.arange(len(state.last), device=sums.device)
            repeated = self._scores_of_pairs(state, rows, state.last.clamp_min(0))
            sums = sums.scatter(1, state.last.clamp_min(0)[:, None], repeated[:, None])
        return sums - state.score[:, None]

    def gains_of_pairs(self, state: CtcPrefixState, rows: Tensor, tokens: Tensor) -> Tensor:
        """`gains` of P pairs, which is hypothesis `rows[p]` continued with `tokens[p]`: (P,)."""
        return self._scores_of_pairs(state, rows, tokens) - state.score[rows]

    def _scores_of_pairs(self, state: CtcPrefixState, rows: Tensor, tokens: Tensor) -> Tensor:
        # A repeated token needs a blank between: only paths that end in a blank may continue with the last token.
        repeated = (tokens == state.last[rows])[:, None]
        before = torch.where(repeated, state.by_blank[rows, :-1], state.before[rows])
        own = self.log_probs[self.utterance[rows], tokens]
        return (before + own).masked_fill(self.outside[rows], float("-inf")).logsumexp(dim=1)

    def bounds(self, state: CtcPrefixState) -> Tensor:
        """No less than `gains`, and little more, for less work: (N, C) in float32.

        They are the same sums in float32, of factors raised to SMALLEST: sums far below the highest get larger.
        """
        before = self._inside(state.before)
        highest = before.amax(dim=1, keepdim=True).clamp_min(torch.finfo(before.dtype).min)
        shares = (before - highest).exp().float().clamp_min_(SMALLEST).view(-1, self.hypotheses, before.shape[1])
        sums = torch.bmm(shares, self._float_probabilities.transpose(1, 2))
        sums = sums.log_().add_(self.highest[:, None]).flatten(0, 1)
        offset = torch.where(state.score > -torch.inf, highest[:, 0] - state.score, 0.0)  # impossible ones stay it
        return sums.add_(offset.float()[:, None] + ROUNDING)

    def extend(self, state: CtcPrefixState, tokens: Tensor) -> CtcPrefixState:
        """The state after hypothesis n is continued with `tokens[n]`."""
        own = self.log_probs[self.utterance, tokens].double()
        before = torch.where((tokens == state.last)[:, None], state.by_blank[:, :-1], state.before)
        enter = before + own
        by_token = _solve_recursion(own, enter)
        by_blank = _solve_recursion(self.blank_log_probs, by_token[:, :-1] + self.blank_log_probs)
        return CtcPrefixState(by_token, by_blank, tokens, self._inside(enter).logsumexp(dim=1))

    def _inside(self, values: Tensor) -> Tensor:
        """Values (N, S), -inf beyond the frames of an utterance."""
        return values.masked_fill(self.outside, float("-inf"))

    @functools.cached_property
    def _float_probabilities(self) -> Tensor:
        """`_probabilities` in float32, raised to SMALLEST."""
        return (self.log_probs - self.highest[..., None]).exp_().float().clamp_min_(SMALLEST)

    @functools.cached_property
    def _probabilities(self) -> Tensor:
        """Of each class at each frame, relative to the class's highest: (B, C, S), in float64."""
        return (self.log_probs.double() - self.highest[..., None]).exp_()

    def _sum_over_frames(self, before: Tensor) -> Tensor:
        """log sum_s exp(before[n, s] + log_probs[n, c, s]) as one matrix product: (N, S) -> (N, C)."""
        N, S = before.shape
        highest = before.amax(dim=1, keepdim=True).clamp_min(torch.finfo(before.dtype).min)
        shares = (before - highest).exp().view(-1, self.hypotheses, S)
        product = torch.bmm(shares, self._probabilities.transpose(1, 2)).log_() + self.highest[:, None]
        return product.view(N, -1) + highest


def _solve_recursion(stay: Tensor, enter: Tensor) -> Tensor:
    """r[0] = -inf, r[t] = logaddexp(r[t-1] + stay[t], enter[t]): (N, S), (N, S) -> (N, S+1)."""
    kept = stay.cumsum(dim=1)
    r = kept + torch.logcumsumexp(enter - kept, dim=1)
    return torch.cat((r.new_full((r.shape[0], 1), float("-inf")), r), dim=1)
