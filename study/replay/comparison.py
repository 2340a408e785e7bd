"""Strategies compared: the compute that each needs to come to a target, and the regret at equal compute.

Regret is what the configuration that is best so far is worth (the mean of its other seeds, where it has them), less
what the best one of the table is. Before a trial has ended it is that of a configuration taken at random. The target is
the mean regret that the first strategy ends with, and a small share of the best figure, since seeds differ by more.
Intervals are of 95 %, from resampled seeds; the seeds of all strategies are resampled together.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.replay.simulation import Trace, simulate
from study.replay.strategies import Strategy
from study.replay.table import Table, Training

Floats = NDArray[np.float64]
Interval = tuple[float, float]

SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)  # of the first strategy's compute
STEPS = 400  # of the compute axis
RESAMPLES = 1000
WITHIN = 0.02  # of the best figure
_LIMITS = (2.5, 97.5)  # per cent


@dataclass(frozen=True)
class Regret:
    """The mean regret after a share of the first strategy's compute."""

    share: float
    mean: float
    interval: Interval


@dataclass(frozen=True)
class Outcome:
    """What a strategy came to over all seeds. Compute is in shares of what the first strategy spends in all."""

    strategy: str
    compute: float  # that it spends in all
    seconds: float  # of the virtual clock
    pruned: float  # share of its trials
    to_target: float  # compute until the mean regret is at the target; infinite where it never is
    to_target_interval: Interval
    speedup: float  # the first strategy's compute to the target over its own
    speedup_interval: Interval
    regrets: tuple[Regret, ...]


@dataclass(frozen=True)
class Comparison:
    """All strategies over one table."""

    configurations: int
    trainings: int
    metric: str
    best: float
    target: float  # regret
    compute: float  # worker seconds of the first strategy
    seeds: int
    workers: int
    outcomes: tuple[Outcome, ...]


def compare_strategies(
    table: Table,
    strategies: Sequence[Strategy],
    seeds: int,
    workers: int | None = None,
    every_seed: bool = False,
    within: float = WITHIN,
    note: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Replay each strategy with every seed; `note` is called with a strategy's name before it runs."""
    workers = workers or table.concurrency
    traces: list[list[Trace]] = []
    for strategy in strategies:
        note(strategy.name)
        traces.append([simulate(table, strategy, seed, workers, every_seed) for seed in range(seeds)])
    # A replay with the same seed sees the same trainings, so its compute is a share of what all of these take.
    shares = [[trace.compute / all_.compute for trace, all_ in zip(runs, traces[0], strict=True)] for runs in traces]
    axis = np.unique([*np.linspace(0.0, max(map(max, shares)), STEPS), *SHARES])
    worth = _Worth(table)
    curves = [
        np.array([worth.curve(trace, axis * all_.compute) for trace, all_ in zip(runs, traces[0], strict=True)])
        for runs in traces
    ]
    target = float(curves[0][:, -1].mean()) + within * worth.best
    draws = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    first = _resample_to_target(curves[0], axis, target, draws)
    outcomes = []
    for strategy, runs, curve, spent in zip(strategies, traces, curves, shares, strict=True):
        own, at = _resample_to_target(curve, axis, target, draws), _find_target(curve.mean(0), axis, target)
        ratio = _divide(first, own)
        outcomes.append(
            Outcome(
                strategy.name,
                statistics.fmean(spent),
                statistics.fmean(trace.seconds for trace in runs),
                statistics.fmean(trace.pruned / (trace.pruned + len(trace.found)) for trace in runs),
                at,
                _interval(own),
                float(_divide(np.array(_find_target(curves[0].mean(0), axis, target)), np.array(at))),
                _interval(ratio),
                tuple(_regret_at(curve, axis, share, draws) for share in SHARES),
            )
        )
    count = len(table.configurations), len(table.trainings)
    full = statistics.fmean(trace.compute for trace in traces[0])
    return Comparison(*count, table.metric, worth.best, target, full, seeds, workers, tuple(outcomes))


class _Worth:
    """The regret of the table's trainings."""

    def __init__(self, table: Table) -> None:
        self.best = table.best()
        self._regrets = {id(training): table.worth(training) - self.best for training in table.trainings}
        self._at_random = statistics.fmean(self._regrets.values())

    def curve(self, trace: Trace, axis: Floats) -> Floats:
        """The regret of the training with the lowest figure so far, at each compute of the axis."""
        times, regrets = [0.0], [self._at_random]
        best: Training | None = None
        for found in trace.found:
            if best is None or found.training.figure < best.figure:
                best = found.training
                times.append(found.compute)
                regrets.append(self._regrets[id(best)])
        return np.array(regrets)[np.searchsorted(times, axis * (1 + 1e-9), side="right") - 1]


def _find_target(mean: Floats, axis: Floats, target: float) -> float:
    reached = np.flatnonzero(mean <= target + 1e-9)
    return float(axis[reached[0]]) if reached.size else float("inf")


def _resample_to_target(curve: Floats, axis: Floats, target: float, draws: NDArray[np.int64]) -> Floats:
    return np.array([_find_target(curve[draw].mean(0), axis, target) for draw in draws])


def _regret_at(curve: Floats, axis: Floats, share: float, draws: NDArray[np.int64]) -> Regret:
    values = curve[:, int(np.searchsorted(axis, share))]
    return Regret(share, float(values.mean()), _interval(values[draws].mean(1)))


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """0 where the denominator is infinite, also where both are."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(denominator), 0.0, numerator / denominator)


def _interval(values: Floats) -> Interval:
    """Percentiles of the values that are there; infinite ones count as the largest."""
    low, high = np.percentile(values, _LIMITS, method="nearest")
    return float(low), float(high)
