"""Effects over seeds: configurations trained with common seeds differ by a mean with an interval, or by nothing shown.

The differences of one seed's pair of trainings are the sample; Student's t gives the interval. (A percentile bootstrap
over three seeds would claim falsely in a fifth of all studies.) Whatever is claimed of several figures is guarded as a
whole: first their mean has to differ, then each is corrected by Holm's rule (Holm, 1979), so that in at most `level` of
all studies of equal systems anything is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

INTERVAL = 0.95  # of single figures
FEWEST_SEEDS = 3  # with fewer nothing is said of configurations
POWER = 0.8  # with which `count_seeds_needed` finds an effect
MOST_SEEDS = 1000  # that it counts up to


@dataclass(frozen=True)
class Effect:
    """A figure of the first system less that of the second, over common seeds; `p` is that of Student's paired t.

    `first` and `second` are means over the seeds. `interval` is of this effect alone and covers it with probability
    `coverage`; `corrected` is p after the correction for all that is claimed together.
    """

    name: str
    seeds: int
    first: float
    second: float
    deviation: float  # of one seed's difference
    interval: tuple[float, float]
    p: float
    corrected: float = 1.0
    coverage: float = INTERVAL

    @property
    def difference(self) -> float:
        return self.first - self.second


def measure_effect(name: str, first: Sequence[float], second: Sequence[float], coverage: float = INTERVAL) -> Effect:
    """The effect of two systems' figures, seed by seed. With one seed, or no variance, nothing is known of chance."""
    from scipy.special import stdtr, stdtrit  # Student's distribution and its inverse; takes a while to import

    count = len(first)
    differences = [ours - theirs for ours, theirs in zip(first, second, strict=True)]
    mean = math.fsum(differences) / count
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (count - 1)) if count > 1 else 0.0
    interval, p = (-math.inf, math.inf), 1.0
    if deviation > 0:
        error = deviation / math.sqrt(count)
        margin = float(stdtrit(count - 1, (1 + coverage) / 2)) * error
        interval = mean - margin, mean + margin
        p = float(2 * stdtr(count - 1, -abs(mean) / error))
    means = math.fsum(first) / count, math.fsum(second) / count
    return Effect(name, count, *means, deviation, interval, p, coverage=coverage)


@dataclass(frozen=True)
class Judged:
    """Effects on a family of figures, corrected together; `overall` is that on their mean, which decides first.

    The interval of `overall` excludes 0 exactly where it is shown.
    """

    overall: Effect
    effects: tuple[Effect, ...]
    level: float

    @property
    def shown(self) -> list[Effect]:
        """The effects of single figures that are shown; none unless the overall one is."""
        return [effect for effect in self.effects if effect.corrected <= self.level]

    @property
    def is_shown(self) -> bool:
        """Whether any difference is shown."""
        return self.overall.corrected <= self.level


def judge(
    first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]], averaged: Sequence[str], level: float
) -> Judged:
    """The effects on every figure, one mapping of figures for each seed; overall on the plain mean of the `averaged`.

    A single figure is its own overall effect. With fewer than three seeds nothing is shown.
    """
    effects = [measure_effect(name, [one[name] for one in first], [one[name] for one in second]) for name in first[0]]
    overall = measure_effect("all", _average(first, averaged), _average(second, averaged), coverage=1 - level)
    overall = replace(overall, corrected=overall.p if overall.seeds >= FEWEST_SEEDS else 1.0)
    corrected = correct_by_holm([effect.p for effect in effects])
    guarded = [
        replace(effect, corrected=max(p, overall.corrected)) for effect, p in zip(effects, corrected, strict=True)
    ]
    return Judged(overall, tuple(guarded), level)


def _average(figures: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[float]:
    """For each seed the plain mean over the named figures."""
    return [math.fsum(one[name] for name in names) / len(names) for one in figures]


def correct_by_holm(probabilities: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's rule: the chance of any false claim stays below the level."""
    order = sorted(range(len(probabilities)), key=lambda index: probabilities[index])
    corrected, highest = [1.0] * len(probabilities), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * probabilities[index]))
        corrected[index] = highest
    return corrected


def count_seeds_needed(deviation: float, size: float, level: float) -> int | None:
    """The seeds with which an effect of `size` is found with 80 % probability, where a seed's difference has this
    deviation; None above a thousand."""
    import numpy as np
    from scipy.stats import nct, t

    if deviation <= 0:
        return FEWEST_SEEDS
    seeds = np.arange(FEWEST_SEEDS, MOST_SEEDS + 1)
    critical = t.ppf(1 - level / 2, seeds - 1)
    found = nct.sf(critical, seeds - 1, size / deviation * np.sqrt(seeds)) >= POWER
    return int(seeds[np.argmax(found)]) if found.any() else None
