"""The best continuations of all hypotheses when CTC prefix scores count, most of them scored in float32 alone.

Prefix scores need float64: they are small differences of large sums. But float32 gives a bound that is hardly higher,
for half of the work. So the candidates with the highest bounds are scored, and where the best of these are no worse
than the bounds of all others, nothing else can be among the best. Otherwise all are scored. Nothing is lost by that, as
it would be by scoring only what attention prefers (the pre-beam of ESPnet).
Shapes: U utterances, K hypotheses of each, V tokens, P candidates of an utterance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.decoding.ctc_prefix_score import CtcPrefixScorer
from model.network.recogniser import EncoderOutput, Recogniser

IMPOSSIBLE = -1e10  # instead of -inf, which subtracted from -inf would become NaN
MORE = 8  # candidates that are scored beyond those that are wanted


class CtcCandidates:
    """The CTC prefix scores of the running hypotheses, `beam` for each utterance, and what they weigh."""

    def __init__(self, model: Recogniser, encoded: EncoderOutput, beam: int, weight: float) -> None:
        log_probs = encoded.ctc_logits.float().log_softmax(dim=-1)
        self._scorer = CtcPrefixScorer(log_probs, encoded.lengths.to(log_probs.device), model.blank, beam)
        self._state = self._scorer.start()
        self._weight, self._vocabulary = weight, model.vocabulary
        # No transcript holds pad, nor a token of the vocabulary that is also the blank.
        blank = model.special.blank
        self._excluded = [model.special.pad] if blank is None else [model.special.pad, blank]

    def best(self, others: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The `count` best sums of an utterance and their places in (K, V), best first: (U, count) each.

        `others` (U, K, V) is what all but CTC gives. A sum is that and `weight` times what log psi grows by, or
        IMPOSSIBLE where CTC gives 0. `others` is changed: tokens that no transcript holds become IMPOSSIBLE.
        """
        others[..., self._excluded] = IMPOSSIBLE
        if count + MORE < others[0].numel():
            found = self._best_by_bounds(others, count, count + MORE)
            if found is not None:
                return found
        gains = self._scorer.gains(self._state)[:, : self._vocabulary].view_as(others)
        return self._add(others, gains).flatten(1).topk(count, dim=1)

    def _best_by_bounds(self, others: Tensor, count: int, scored: int) -> tuple[Tensor, Tensor] | None:
        """`best` by the scores of the `scored` candidates with the highest bounds; None where others may be better."""
        bounds = self._scorer.bounds(self._state)[:, : self._vocabulary].view_as(others)
        highest, places = torch.add(others, bounds, alpha=self._weight).flatten(1).topk(scored + 1, dim=1)
        places = places[:, :scored]
        utterances = torch.arange(len(others), device=others.device)[:, None]
        rows = utterances * others.shape[1] + places // self._vocabulary
        gains = self._scorer.gains_of_pairs(self._state, rows.flatten(), (places % self._vocabulary).flatten())
        sums = self._add(others.flatten(1).gather(1, places), gains.view_as(places))
        best, order = sums.topk(count, dim=1)
        # Impossible sums are all equal, and which of them come first must not depend on how they were found.
        are_best = best[:, -1] >= highest[:, -1].clamp_min(IMPOSSIBLE / 2)
        return (best, places.gather(1, order)) if bool(are_best.all()) else None

    def _add(self, others: Tensor, gains: Tensor) -> Tensor:
        """Sums with CTC's `gains`, of any shape."""
        gains = gains.float().nan_to_num(nan=IMPOSSIBLE, neginf=IMPOSSIBLE)
        return torch.where(gains > IMPOSSIBLE, others + self._weight * gains, IMPOSSIBLE)

    def select(self, utterances: Tensor) -> None:
        """Go on with a part of the utterances; `extend` has to follow, with rows of these alone."""
        self._scorer = self._scorer.select(utterances)

    def extend(self, rows: Tensor, tokens: Tensor) -> None:
        """Continue hypothesis `rows[n]` with `tokens[n]`, for the U * K that go on."""
        self._state = self._scorer.extend(self._state.select(rows), tokens)
