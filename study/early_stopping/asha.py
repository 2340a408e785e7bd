"""`asha`: asynchronous successive halving that stops (Li et al., arXiv 1810.05934), with Ray Tune's cutoffs."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict

from study.early_stopping.rule import Ruling


class Asha:
    """Prunes a trial whose value at a rung is behind the best 1 / reduction of what the rung has seen before it.

    Rungs are the epochs grace_epochs * reduction ** k. A trial that reports none of them exactly is compared at the
    highest rung below its epoch. Decisions are those of Tune's AsyncHyperBandScheduler with stop_last_trials=False,
    but for reports that come again: Tune would keep the first one, see `Rule`. Values that are not finite are ignored.
    """

    def __init__(self, grace_epochs: int, reduction: int) -> None:
        self._grace_epochs, self._reduction = grace_epochs, reduction
        self._rewards: dict[int, list[float]] = defaultdict(list)  # rung -> negated values, ascending: worst first
        self._reached: dict[int, list[tuple[int, int, float]]] = defaultdict(list)  # number -> (epoch, rung, reward)

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Ruling:
        self._discard_from(number, epoch)
        rung, reached = self._rung_of(epoch), self._reached[number]
        if rung is None or not math.isfinite(value) or (reached and reached[-1][1] == rung):
            return Ruling.CONTINUE
        rewards, reward = self._rewards[rung], -value
        behind = bool(rewards) and reward < cutoff(rewards, self._reduction)
        bisect.insort(rewards, reward)
        reached.append((epoch, rung, reward))
        return Ruling.PRUNE if behind and not (baseline or last) else Ruling.CONTINUE

    def remove(self, number: int) -> None:
        self._discard_from(number, 0)

    def override(self, number: int, ended: bool) -> None:
        """See `Rule`; nothing is kept of a ruling."""

    def promote_next(self, closed: bool = False) -> int | None:
        return None

    def _rung_of(self, epoch: int) -> int | None:
        """The highest rung that is not above the epoch."""
        if epoch < self._grace_epochs:
            return None
        rung = self._grace_epochs
        while rung * self._reduction <= epoch:
            rung *= self._reduction
        return rung

    def _discard_from(self, number: int, epoch: int) -> None:
        """Drop what the trial has reported at `epoch` and after it."""
        reached = self._reached[number]
        while reached and reached[-1][0] >= epoch:
            _, rung, reward = reached.pop()
            rewards = self._rewards[rung]
            del rewards[bisect.bisect_left(rewards, reward)]


def cutoff(rewards: list[float], reduction: int) -> float:
    """The reward that a trial needs to be among the best 1 / reduction of ascending `rewards`.

    It is numpy's percentile 100 (1 - 1 / reduction), interpolated linearly and rounded in the same order of operations:
    a trial whose reward equals the cutoff is not stopped, so the last bit counts.
    """
    quantile = (1 - 1 / reduction) * 100 / 100
    place = (len(rewards) - 1) * quantile
    below = math.floor(place)
    if below + 1 >= len(rewards):
        return rewards[-1]
    low, high, share = rewards[below], rewards[below + 1], place - below
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share
