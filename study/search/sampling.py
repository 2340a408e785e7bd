"""Optuna's samplers on a study's space: who draws a point, and what is known when it is drawn."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from study.config.search_settings import SearchSettings
from study.search.space import Point, Space

# TPE notes here all that it drew for a trial, and takes it for what a running trial tries, even the parameters that the
# trial then has no use for. It is emptied once the trial has its point: a trial is what its record says.
TPE_NOTE = "tpe:relative_params:0"


class TrialSource:
    """Optuna's define-by-run interface as a source of suggested values."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int) -> int:
        return self._trial.suggest_int(name, low, high)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(name, values)


class _PointSource:
    """A point that is known, drawn again for the sake of its distributions."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self.distributions: dict[str, BaseDistribution] = {}

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log)
        return float(self._point[name])

    def integer(self, name: str, low: int, high: int) -> int:
        self.distributions[name] = IntDistribution(low, high)
        return int(self._point[name])

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        self.distributions[name] = CategoricalDistribution(values)
        return self._point[name]


def distributions(space: Space, point: Point) -> dict[str, BaseDistribution]:
    """What the point's parameters were drawn from, or would have been."""
    source = _PointSource(point)
    space.suggest(source)
    return source.distributions


def sampler(search: SearchSettings, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial, seeded by its number: a study that was interrupted proposes what it would have."""
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(
            n_startup_trials=search.startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
            warn_independent_sampling=False,
            seed=seed,
        )
    return optuna.samplers.RandomSampler(seed=seed)


def shuffled_grid(space: Space, search: SearchSettings) -> list[Point] | None:
    """The grid in an order that covers it early; None for the other samplers."""
    if search.sampler != "grid":
        return None
    grid = space.grid(search.grid_points)
    random.Random(search.seed).shuffle(grid)
    return grid


def learned_from(
    trials: Sequence[FrozenTrial], paused: Collection[int], search: SearchSettings, space: Space
) -> Point | None:
    """The point that the sampler draws when it may learn from paused trials; None where it would not differ.

    To Optuna a paused trial is a running one, and TPE takes those for bad ones. What a paused trial has shown at its
    rung is worth what a stopped one has shown there, so it is asked in a study of the moment that says so.
    """
    shown = {trial.number for trial in trials if trial.number in paused and trial.intermediate_values}
    if search.sampler != "tpe" or not shown:
        return None
    with quiet():
        moment = optuna.create_study(direction="minimize", sampler=sampler(search, len(trials)))
        moment.add_trials([_as_pruned(trial) if trial.number in shown else trial for trial in trials])
        return space.suggest(TrialSource(moment.ask()))


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    return optuna.create_trial(
        state=TrialState.PRUNED,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings: grouped TPE is called experimental each time it is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
