"""`asha-promote`: every trial pauses at each rung, and only the best of a rung continue.

Asynchronous successive halving with promotion (Li et al., arXiv 1810.05934, algorithm 2): no worker waits for a rung to
fill. A free one takes the best paused trial that may continue, from the highest rung down, and only then a new one.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from study.early_stopping.rule import Ruling

BELOW = 0  # the rung of a trial that waits though it has reached none, because the rungs were moved

Place = tuple[float, int]  # value and number: of equal values the lower number is better


@dataclass
class _Rung:
    """The trials that have reached a rung with a finite value, and those of them that wait there; best first."""

    ranked: list[Place] = field(default_factory=list)
    waiting: list[Place] = field(default_factory=list)


class Promotion:
    """What each rung has seen, and which trials wait there.

    Rungs are the epochs grace_epochs * reduction ** k. Of the n values that a rung has seen, those of baselines among
    them, the best n // reduction may continue. A value that is not finite has no place among them.
    """

    def __init__(self, grace_epochs: int, reduction: int) -> None:
        self._grace_epochs, self._reduction = grace_epochs, reduction
        self._rungs: dict[int, _Rung] = defaultdict(_Rung)
        self._values: dict[int, dict[int, float]] = defaultdict(dict)  # number -> rung -> value, rungs ascending
        self._waiting: dict[int, int] = {}  # number -> rung
        self._waited: dict[int, int] = {}  # number -> the epoch after which it paused last
        self._baselines: set[int] = set()

    @classmethod
    def rebuild(
        cls,
        grace_epochs: int,
        reduction: int,
        values: Mapping[int, Mapping[int, float]],
        waiting: Collection[int] = (),
        waited: Mapping[int, int] | None = None,
        baselines: Collection[int] = (),
    ) -> Promotion:
        """The rule as earlier sessions left it.

        `values` is number -> epoch -> value, of all trials that did not fail; `waited` is the epoch after which a trial
        paused last, whether it still waits or was promoted since.
        """
        promotion = cls(grace_epochs, reduction)
        promotion._baselines, promotion._waited = set(baselines), dict(waited or {})
        for number, epochs in values.items():
            for epoch in filter(promotion.is_rung, sorted(epochs)):
                promotion._add(number, epoch, epochs[epoch])
        for number in waiting:
            promotion._wait(number, max(promotion._values[number], default=BELOW))
        return promotion

    def is_rung(self, epoch: int) -> bool:
        """Whether trials are compared after this epoch."""
        rung = self._grace_epochs
        while rung < epoch:
            rung *= self._reduction
        return rung == epoch

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Ruling:
        """See `Rule`. A trial that was promoted from this rung before, and comes to it again, continues."""
        promoted = self._waited.get(number) == epoch and number not in self._waiting
        self._discard_from(number, epoch)
        if not self.is_rung(epoch):
            return Ruling.CONTINUE
        self._add(number, epoch, value)
        if baseline:
            self._baselines.add(number)
        if baseline or last or promoted or self._is_among_best(number, epoch):
            return Ruling.CONTINUE
        self._waited[number] = epoch
        self._wait(number, epoch)
        return Ruling.PAUSE

    def remove(self, number: int) -> None:
        self._discard_from(number, 0)
        self._waited.pop(number, None)

    def override(self, number: int, ended: bool) -> None:
        """See `Rule`. It keeps its place among those that the rung has seen, and may take that of another one."""
        self._stop_waiting(number)

    def promote_next(self, closed: bool = False) -> int | None:
        """See `Rule`. The trial no longer waits.

        Where the study is `closed`, the best sampled trial of each rung continues even where the rung has seen too few,
        so that a small study brings one to its end. None then means that those that still wait are to be pruned.
        """
        for rung in sorted(self._rungs, reverse=True):
            waiting = self._rungs[rung].waiting
            if waiting and self._may_continue(rung, waiting[0], closed):
                number = waiting[0][1]
                self._stop_waiting(number)
                return number
        return None

    def paused(self) -> dict[int, int]:
        """The trials that wait, and the rung where they are compared; `BELOW` where that is none any more."""
        return dict(sorted(self._waiting.items()))

    def _may_continue(self, rung: int, place: Place, closed: bool) -> bool:
        """Whether the best of those that wait at a rung may continue."""
        if rung == BELOW or self._is_among_best(place[1], rung):
            return True
        sampled = (best for best in self._rungs[rung].ranked if best[1] not in self._baselines)
        return closed and next(sampled, None) == place

    def _is_among_best(self, number: int, rung: int) -> bool:
        ranked, value = self._rungs[rung].ranked, self._values[number][rung]
        if not math.isfinite(value):
            return False
        return bisect.bisect_left(ranked, (value, number)) < len(ranked) // self._reduction

    def _add(self, number: int, rung: int, value: float) -> None:
        self._values[number][rung] = value
        if math.isfinite(value):
            bisect.insort(self._rungs[rung].ranked, (value, number))

    def _wait(self, number: int, rung: int) -> None:
        self._waiting[number] = rung
        value = self._values[number].get(rung, 0.0)  # below all rungs only the number counts
        if math.isfinite(value):
            bisect.insort(self._rungs[rung].waiting, (value, number))

    def _stop_waiting(self, number: int) -> None:
        rung = self._waiting.pop(number, None)
        if rung is not None:
            _discard(self._rungs[rung].waiting, (self._values[number].get(rung, 0.0), number))

    def _discard_from(self, number: int, epoch: int) -> None:
        """Drop what the trial has reported at `epoch` and after it; a trial that reports does not wait."""
        self._stop_waiting(number)
        values = self._values[number]
        while values and next(reversed(values)) >= epoch:
            rung, value = values.popitem()
            _discard(self._rungs[rung].ranked, (value, number))


def _discard(places: list[Place], place: Place) -> None:
    """Take the place out of a sorted list, where it is there; values that are not finite never are."""
    if math.isfinite(place[0]):
        del places[bisect.bisect_left(places, place)]
