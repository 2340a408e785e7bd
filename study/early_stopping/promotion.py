"""The rule `asha-promote`: every trial pauses at each rung, and only the best of a rung go on. Pure: no Ray, no Optuna.

Asynchronous successive halving with promotion (Li et al., arXiv 1810.05934, algorithm 2): nobody waits for a rung to
fill. Whoever is free takes the best trial that may go on, from the highest rung down, and only then a new proposal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping

BELOW = 0  # the place of a trial that waits though it has reached no rung, because the rungs were moved


class Promotion:
    """What each rung has seen, and who waits there. Values are better the smaller they are.

    Rungs are the epochs grace_epochs * reduction ** k. Of the n values that a rung has seen, those of baselines among
    them, the best n // reduction may go on. A trial is known by the study's number; of equal values the lower goes on.
    """

    def __init__(self, grace_epochs: int, reduction: int) -> None:
        self._grace_epochs = grace_epochs
        self._reduction = reduction
        self._values: dict[int, dict[int, float]] = defaultdict(dict)  # rung -> number -> value
        self._waiting: dict[int, int] = {}  # number -> rung
        self._baselines: set[int] = set()
        self._undecided: dict[int, int] = {}  # number -> rung that it came to when a crash came, and nobody was told

    @classmethod
    def seen(
        cls,
        grace_epochs: int,
        reduction: int,
        values: Mapping[int, Mapping[int, float]],
        waiting: Collection[int] = (),
        baselines: Collection[int] = (),
        unsure: Collection[int] = (),
    ) -> Promotion:
        """The rule as earlier sessions left it: `values` is number -> epoch -> value, of all trials but failed ones.

        A trial that does not wait has gone on from every rung that it has a value of. Only of those that are `unsure`,
        because a crash may have come before its last rung could say so, that is not known: if its worker reports this
        epoch again, nobody was told, and the rung decides then; if it reports a later one, the trial has gone on.
        """
        promotion = cls(grace_epochs, reduction)
        promotion._baselines = set(baselines)
        for number, epochs in values.items():
            for epoch, value in epochs.items():
                if promotion.is_rung(epoch):
                    promotion._values[epoch][number] = value
        for number in waiting:
            promotion._waiting[number] = max(filter(promotion.is_rung, values.get(number, ())), default=BELOW)
        for number in unsure:
            last = max(values.get(number, ()), default=BELOW)
            # Who was among the best at the crash went on, even if better ones come before it is heard again.
            if promotion.is_rung(last) and number not in promotion._chosen(last, closed=False):
                promotion._undecided[number] = last
        return promotion

    def is_rung(self, epoch: int) -> bool:
        """Whether trials are compared after this epoch."""
        rung = self._grace_epochs
        while rung < epoch:
            rung *= self._reduction
        return rung == epoch

    def reached(self, number: int, epoch: int, value: float, *, baseline: bool = False, last: bool = False) -> bool:
        """Whether the trial goes on now; False: pause it, until `next` names it.

        A baseline never pauses, and the `last` epoch of a recipe is no rung of its trial; others are still compared
        with both. A rung decides once: a trial that comes to it again goes on where it went on before.
        """
        undecided = self._undecided.get(number, BELOW)
        if epoch >= undecided:
            self._undecided.pop(number, None)
        if not self.is_rung(epoch):
            return True
        known = number in self._values[epoch] and epoch != undecided
        self._values[epoch][number] = value
        if baseline:
            self._baselines.add(number)
        if known or baseline or last:
            return number not in self._waiting
        self._waiting[number] = epoch
        if number not in self._promotable(epoch, closed=False):
            return False
        del self._waiting[number]
        return True

    def promotable(self, closed: bool = False) -> int | None:
        """Whom `next` would name."""
        for rung in sorted(set(self._waiting.values()), reverse=True):
            if best := self._promotable(rung, closed):
                return best[0]
        return None

    def promote_next(self, closed: bool = False) -> int | None:
        """The paused trial that goes on now; None when none may. It no longer waits.

        `closed`: no proposal is to come and nothing runs. Then the best sampled trial of each rung goes on even where
        the rung has seen too few, so that a small study brings one to its end. None says that the rest are pruned.
        """
        number = self.promotable(closed)
        if number is not None:
            del self._waiting[number]
        return number

    def paused(self) -> dict[int, int]:
        """The trials that wait, and after which epoch they are compared; 0 where that is no rung any more."""
        return dict(sorted(self._waiting.items()))

    def gone(self, number: int, failed: bool = False) -> None:
        """The trial has ended. Its values stay what others are compared with, unless it failed."""
        self._waiting.pop(number, None)
        self._undecided.pop(number, None)
        if failed:
            for values in self._values.values():
                values.pop(number, None)

    def _promotable(self, rung: int, closed: bool) -> list[int]:
        """Those that wait at the rung and may go on, best first."""
        chosen = sorted(self._waiting) if rung == BELOW else self._chosen(rung, closed)
        return [number for number in chosen if self._waiting.get(number) == rung]

    def _chosen(self, rung: int, closed: bool) -> list[int]:
        """Those that go on from the rung, or have gone on, best first."""
        ranked = self._ranked(rung)
        chosen = set(ranked[: len(ranked) // self._reduction])
        if closed:
            chosen.update([number for number in ranked if number not in self._baselines][:1])
        return [number for number in ranked if number in chosen]

    def _ranked(self, rung: int) -> list[int]:
        """The trials that the rung has seen, best first; a value that is no number has no place."""
        values = self._values[rung]
        return sorted((number for number in values if math.isfinite(values[number])), key=lambda n: (values[n], n))
