"""Which searched quantities separate the best trials from all: Optuna's conditional PED-ANOVA, with what chance gives.

PED-ANOVA compares where the best trials lie with where all lie (arXiv 2304.10255; conditional parameters, 2601.20800).
Of few trials it gives every quantity some importance, so each has a bootstrap band, and shuffled figures show what the
largest of all is by chance alone: only what exceeds that is a signal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from study.search.quantity import Point
from study.search.sampling import find_distributions
from study.search.space import Space

FEWEST = 8  # trials
SHARE = 0.25  # of the trials, the best ones; of a tenth, as Optuna takes, a study of 50 trials shows nothing
BAND, CHANCE = 0.9, 0.95
RESAMPLES, SHUFFLES = 40, 60
MOST = 300  # trials, drawn at random: more change nothing that is seen, and take seconds


@dataclass(frozen=True)
class MeasuredImportance:
    """A parameter's importance as PED-ANOVA gives it, its bootstrap band, and the largest one that chance gives."""

    name: str
    importance: float
    low: float
    high: float
    chance: float

    @property
    def has_signal(self) -> bool:
        return self.importance > self.chance


def measure_importances(
    points: Sequence[Point], figures: Sequence[float], space: Space, seed: int = 0
) -> list[MeasuredImportance]:
    """The importance of every parameter of the points, the largest first; empty for fewer than eight trials, or where
    all figures are equal."""
    if len(points) < FEWEST or len(set(figures)) == 1:
        return []
    generator = np.random.default_rng(seed)
    if len(points) > MOST:
        chosen = generator.choice(len(points), MOST, replace=False)
        points, figures = [points[index] for index in chosen], [figures[index] for index in chosen]
    distributions = [find_distributions(space, point) for point in points]
    values = np.array(figures, dtype=float)
    everything = np.arange(len(points))

    def evaluate(rows: NDArray[np.int64], of_rows: NDArray[np.float64]) -> dict[str, float]:
        # Only the order counts. Ranks without ties keep the number of the best the same in every resample.
        ranks = of_rows.argsort(kind="stable").argsort()
        trials = [
            _make_trial(number, points[row], distributions[row], float(rank))
            for number, (row, rank) in enumerate(zip(rows.tolist(), ranks.tolist(), strict=True))
        ]
        return _evaluate(trials)

    found = evaluate(everything, values)
    chance = [max(evaluate(everything, generator.permutation(values)).values()) for _ in range(SHUFFLES)]
    resampled = []
    for _ in range(RESAMPLES):
        rows = generator.integers(len(points), size=len(points))
        resampled.append(evaluate(rows, values[rows]))
    limit = float(np.quantile(chance, CHANCE))
    measured = [_summarise(name, value, resampled, limit) for name, value in found.items()]
    return sorted(measured, key=lambda one: (-one.importance, one.name))


def _summarise(
    name: str, importance: float, resampled: Sequence[Mapping[str, float]], limit: float
) -> MeasuredImportance:
    low, high = np.quantile([one.get(name, 0.0) for one in resampled], ((1 - BAND) / 2, (1 + BAND) / 2))
    return MeasuredImportance(name, importance, float(low), float(high), limit)


def _make_trial(number: int, point: Point, distributions: dict[str, BaseDistribution], value: float) -> FrozenTrial:
    """A trial with a number of its own: Optuna distinguishes trials by it, and a resample has some twice."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=value,
        datetime_start=None,
        datetime_complete=None,
        params=dict(point),
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


class _OnlyThese(optuna.storages.InMemoryStorage):
    """A storage in memory that has the given trials alone."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._given = trials

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: object = None) -> list[FrozenTrial]:
        return self._given


def _evaluate(trials: list[FrozenTrial]) -> dict[str, float]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(storage=_OnlyThese(trials))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=SHARE)
        found = evaluator.evaluate(study)
    # Optuna's factor of the share squared is the same for all of them, and only makes them small.
    return {name: value / SHARE**2 if math.isfinite(value) else 0.0 for name, value in found.items()}
