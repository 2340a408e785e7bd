"""Which metric at which epoch ranks trials as the end does, from trials that ran to their end whatever they showed.

The rank correlation of every metric at every epoch with the objective after the last one is compared with what shuffled
ends give: the largest correlation of any of them in `LEVEL` of the shuffles is what chance makes of so many looks. In
Fisher's z that is also the half width of the interval around each correlation, so a lower end above 0 means just that
more than chance is shown. Few trials make it wide.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Of the interval, over all metrics and epochs. The rule looks again whenever a trial has ended: with 0.98, somebody was
# stopped in 3 of 80 studies of 50 trials whose early figures were noise; with 0.95 in 14.
LEVEL = 0.98
SHUFFLES = 1000
FEWEST = 5  # trials
CHECK_EVERY = 10  # one trial in so many runs to its end whatever it shows
MOST = 60  # trials that are looked at, the newest ones

Reports = Mapping[int, Mapping[str, float]]  # epoch -> metric -> value, of one trial
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RungEvidence:
    """How well a metric at an epoch ranks trials as their ends do; the interval is of all that was looked at."""

    metric: str
    epoch: int
    rho: float
    low: float
    high: float
    trials: int

    @property
    def is_shown(self) -> bool:
        """Whether the ranking is shown to be worth more than chance."""
        return self.low > 0.0

    def __str__(self) -> str:
        interval = f"rho {self.rho:.2f} [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.metric} at epoch {self.epoch} ranks {self.trials} trials as the end does with {interval}"


def runs_to_its_end(number: int, complete_first: int) -> bool:
    """Whether this trial is never stopped: one of the first, or a check of what the rung would have stopped."""
    return number < complete_first or number % CHECK_EVERY == CHECK_EVERY - 1


def choose_unselected(
    ended: Collection[int], stopped: Collection[int], baselines: Collection[int], complete_first: int
) -> list[int]:
    """The trials that ran to their end whatever they showed, in ascending order.

    Trials that survived a rung are no fair sample of what the rung is worth, so of those after the first stop only
    baselines and checks count.
    """
    first = min(stopped, default=math.inf)
    unselected = [
        number
        for number in sorted(ended)
        if number < first or number in baselines or runs_to_its_end(number, complete_first)
    ]
    return unselected[-MOST:]


def find_evidence(trials: Sequence[Reports], objective: str) -> dict[int, RungEvidence]:
    """By epoch below the last one, the metric that ranks best; the objective where another is no better.

    `trials` ran to their end; those whose end is not finite are left out. Empty where there are too few.
    """
    usable = [reports for reports in trials if _is_finite(reports, max(reports, default=0), objective)]
    if len(usable) < FEWEST:
        return {}
    ends = _standardise(np.array([[reports[max(reports)][objective] for reports in usable]]))
    names = _list_candidates(usable, objective)
    if not names or not ends.any():
        return {}
    figures = np.array([[reports[epoch][metric] for reports in usable] for epoch, metric in names])
    ranks = _standardise(figures)
    rhos = ranks @ ends[0]
    width = math.atanh(min(_find_chance(ranks, ends[0]), 1 - 1e-12))
    found: dict[int, RungEvidence] = {}
    for (epoch, metric), rho in zip(names, rhos, strict=True):
        # A correlation of 1 has no place in Fisher's z; of n trials it is not known better than to 1 / n.
        place = math.atanh(min(max(float(rho), -1 + 1 / len(usable) ** 2), 1 - 1 / len(usable) ** 2))
        if epoch not in found or rho > found[epoch].rho + 1e-9:
            low, high = math.tanh(place - width), math.tanh(place + width)
            found[epoch] = RungEvidence(metric, epoch, float(rho), low, high, len(usable))
    return found


def _list_candidates(trials: Sequence[Reports], objective: str) -> list[tuple[int, str]]:
    """(epoch, metric) of what every trial reported before its last epoch, the objective first of each epoch."""
    epochs = set.intersection(*(set(reports) - {max(reports)} for reports in trials))
    candidates = []
    for epoch in sorted(epochs):
        metrics = [name for name in trials[0][epoch] if is_figure(name)]
        for metric in sorted(metrics, key=lambda name: (name != objective, name)):
            if all(_is_finite(reports, epoch, metric) for reports in trials):
                candidates.append((epoch, metric))
    return candidates


def is_figure(metric: str) -> bool:
    """Whether a metric says how good a model is, the smaller the better."""
    is_of_dev = metric.startswith("dev/") and not metric.endswith(("seconds", "utterances", "/rtf"))
    return is_of_dev or metric.startswith("train/loss")


def _is_finite(reports: Reports, epoch: int, metric: str) -> bool:
    return math.isfinite(reports.get(epoch, {}).get(metric, math.nan))


def _standardise(figures: Floats) -> Floats:
    """Ranks along each row, equal values sharing their mean rank, with mean 0 and length 1; 0 where all are equal."""
    ranks = rank_rows(figures)
    ranks -= ranks.mean(1, keepdims=True)
    lengths = np.sqrt((ranks**2).sum(1, keepdims=True))
    return np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0)


def rank_rows(figures: Floats) -> Floats:
    """Ranks along each row from 1 on, equal values sharing their mean rank: scipy's `rankdata`, without its import."""
    order = figures.argsort(1, kind="stable")
    ordered = np.take_along_axis(figures, order, 1)
    places, ends = np.arange(figures.shape[1]), np.ones((len(figures), 1), bool)
    differs = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(np.hstack([ends, differs]), places, 0), 1)
    last = np.minimum.accumulate(np.where(np.hstack([differs, ends]), places, places[-1])[:, ::-1], 1)[:, ::-1]
    ranks = np.empty(figures.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, 1)
    return ranks


def _find_chance(ranks: Floats, ends: Floats) -> float:
    """The largest correlation of any row that shuffled ends stay below in `LEVEL` of all shuffles."""
    return float(np.quantile((ranks @ ends[_shuffle(len(ends))].T).max(0), LEVEL, method="higher"))


@lru_cache(maxsize=8)
def _shuffle(count: int) -> NDArray[np.int64]:
    """The places of `count` trials in each shuffle; seeded, so that a study that is resumed decides the same."""
    return np.random.default_rng(0).random((SHUFFLES, count)).argsort(1)
