"""Optuna's samplers on a study's space.

A sampler learns from the trials that it is given, as Optuna's frozen trials; each proposal makes a new sampler. It is
seeded by the trial's number, so that the same trials lead to the same proposal in every session.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from study.config.search_settings import SearchSettings
from study.search.quantity import Point
from study.search.space import Space


class TrialSource:
    """A trial of Optuna's as a source of values."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int) -> int:
        return self._trial.suggest_int(name, low, high)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(name, values)


class _PointSource:
    """The values of a known point; it collects the distributions that they are drawn from."""

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


def find_distributions(space: Space, point: Point) -> dict[str, BaseDistribution]:
    """The distribution of each parameter of the point."""
    source = _PointSource(point)
    space.suggest(source)
    return source.distributions


class _GivenTrials(optuna.storages.InMemoryStorage):
    """A storage in memory that returns the given trials before its own."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._given = trials

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[optuna.trial.TrialState] | None = None,
    ) -> list[FrozenTrial]:
        given = self._given if states is None else [trial for trial in self._given if trial.state in states]
        return [*given, *super().get_all_trials(study_id, deepcopy, states)]


def draw_point(
    space: Space, search: SearchSettings, number: int, trials: list[FrozenTrial], objectives: int = 1
) -> Point:
    """The point that the study's sampler proposes for trial `number` after `trials`, which have so many values each.

    The new trial has Optuna's number 0, so the given ones must be numbered from 1.
    """
    with _without_warnings():
        study = optuna.create_study(
            storage=_GivenTrials(trials),
            sampler=make_sampler(search, number),
            directions=["minimize"] * objectives,
        )
        return space.suggest(TrialSource(study.ask()))


def make_sampler(search: SearchSettings, number: int) -> optuna.samplers.BaseSampler:
    """The study's sampler, seeded for one trial."""
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


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress Optuna's warning that grouped TPE is experimental, which comes with every sampler."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
