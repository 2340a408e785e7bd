"""`median`: the median stopping rule (Golovin et al. 2017, Google Vizier), with Ray Tune's rulings."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict

import numpy as np

from study.early_stopping.rule import Ruling

MIN_OTHERS = 3  # trials that a median is taken over; with fewer, all continue


class Median:
    """Prunes a trial whose best value so far is worse than the median of the other trials' running means.

    A running mean at an epoch is that of all values from `grace_epochs` to this epoch, of every other trial that has
    reported this epoch or a later one. Decisions are those of Tune's MedianStoppingRule that never pauses, but for
    reports that come again: Tune would count both, see `Rule`. Values that are not finite are ignored.
    """

    def __init__(self, grace_epochs: int) -> None:
        self._grace_epochs = grace_epochs
        self._values: dict[int, dict[int, float]] = defaultdict(dict)  # number -> epoch -> value, epochs ascending
        self._means: dict[int, dict[int, float]] = defaultdict(dict)  # number -> epoch -> running mean
        self._ranked: dict[int, list[tuple[float, int]]] = defaultdict(list)  # epoch -> (running mean, number), sorted

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Ruling:
        self._discard_from(number, epoch)
        if not math.isfinite(value):
            return Ruling.CONTINUE
        others = self._ranked[epoch]  # the trial itself is not there yet
        best = min([value, *self._values[number].values()])
        behind = len(others) >= MIN_OTHERS and _median(others) < best
        self._add(number, epoch, value)
        return Ruling.PRUNE if behind and not (baseline or last) else Ruling.CONTINUE

    def remove(self, number: int) -> None:
        self._discard_from(number, 0)

    def override(self, number: int, ended: bool) -> None:
        """See `Rule`; nothing is kept of a ruling."""

    def promote_next(self, closed: bool = False) -> int | None:
        return None

    def _add(self, number: int, epoch: int, value: float) -> None:
        values, means = self._values[number], self._means[number]
        if means:  # at epochs between two reports the mean stays what it was after the first
            before = next(reversed(means))
            for between in range(before + 1, epoch):
                self._rank(number, between, means[before])
        values[epoch] = value
        if epoch >= self._grace_epochs:
            # numpy's own mean, as in Tune: another order of summation could differ in the last bit
            mean = float(np.mean([values[at] for at in values if at >= self._grace_epochs]))
            self._rank(number, epoch, mean)

    def _rank(self, number: int, epoch: int, mean: float) -> None:
        self._means[number][epoch] = mean
        bisect.insort(self._ranked[epoch], (mean, number))

    def _discard_from(self, number: int, epoch: int) -> None:
        """Drop what the trial has reported at `epoch` and after it."""
        values, means = self._values[number], self._means[number]
        while values and next(reversed(values)) >= epoch:
            values.popitem()
        last = next(reversed(values), 0)
        while means and next(reversed(means)) > last:
            at, mean = means.popitem()
            ranked = self._ranked[at]
            del ranked[bisect.bisect_left(ranked, (mean, number))]


def _median(ranked: list[tuple[float, int]]) -> float:
    middle = len(ranked) // 2
    return ranked[middle][0] if len(ranked) % 2 else (ranked[middle - 1][0] + ranked[middle][0]) / 2
