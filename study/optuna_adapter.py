"""Optuna behind one class. The only file that imports it."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from model.errors import UserError
from model.recipe import Recipe
from model.recipe_files import with_values
from study.baselines import check_baselines
from study.space import Point, Space, Value
from study.study_file import Search, StudyFile
from study.trial_record import State

logger = logging.getLogger(__name__)

# Attributes of an Optuna trial. One without RECIPE was left by a crash between two writes.
RECIPE, BASELINE, GRID, STATE = "recipe", "baseline", "grid", "state"
_TOLD = {State.COMPLETE: TrialState.COMPLETE, State.PRUNED: TrialState.PRUNED}
_LOCK_PATIENCE = 60  # seconds that a write waits for another process's lock on SQLite


@dataclass(frozen=True)
class Proposal:
    """A recipe to try, under the number that it has everywhere."""

    number: int
    recipe: Recipe
    values: dict[str, Value]  # the searched quantities, for tables and MLflow
    baseline: str | None = None


@dataclass(frozen=True)
class Refused:
    """A sampled point that makes no recipe."""

    number: int
    values: dict[str, Value]
    reason: str


def _logged(refused: Refused) -> None:
    logger.warning("trial %d is infeasible: %s", refused.number, refused.reason)


class Proposer:
    """Proposes baselines once each, then sampled recipes, and learns from what is told."""

    def __init__(self, study_file: StudyFile, base_recipe: Recipe, storage_url: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study_file = study_file
        self._search = study_file.search
        self.space = Space(study_file.search, base_recipe)
        self._baselines = check_baselines(study_file.baselines, base_recipe)
        self._grid = _shuffled_grid(self.space, self._search)
        self._storage = _storage(storage_url)
        self._study = optuna.create_study(
            study_name=study_file.name, storage=self._storage, direction="minimize", load_if_exists=True
        )
        self._study_id = self._storage.get_study_id_from_name(study_file.name)
        left = [self._left_running(trial) for trial in self._trials(TrialState.RUNNING)]
        self._interrupted = [proposal for proposal in left if proposal is not None]

    def propose(self, infeasible: Callable[[Refused], None] = _logged) -> Proposal | None:
        """The next recipe to try; None when the budget is spent or the grid exhausted.

        `infeasible` hears of every point on the way that makes no recipe, before Optuna is told.
        """
        while self._trials(TrialState.WAITING) or self._enqueue_baseline() or self._enqueue_sample():
            number = self._next_number()
            with _quiet():
                self._study.sampler = _sampler(self._search, number)
                trial = self._study.ask()
                proposal = self._filled(trial, infeasible)
            if proposal is not None:
                return proposal
        return None

    def report(self, number: int, step: int, value: float) -> None:
        """A rung's value, after epoch `step`. The same step again replaces it."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def tell(self, number: int, state: State, value: float | None = None) -> None:
        """How the trial ended. An interrupted one stays open; telling an ended one again changes nothing."""
        if state is State.INTERRUPTED:
            return
        if not state.final:
            raise ValueError(f"trial {number} was told {state}, but must have ended")
        finite = value is not None and math.isfinite(value)
        told = _TOLD.get(state, TrialState.FAIL)
        if told is TrialState.COMPLETE and not finite:
            told = TrialState.FAIL
        self._interrupted = [proposal for proposal in self._interrupted if proposal.number != number]
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError), _quiet():
            self._storage.set_trial_user_attr(self._trial_id(number), STATE, state.value)
            self._study.tell(number, value if told is TrialState.COMPLETE else None, told, skip_if_finished=True)

    def interrupted(self) -> list[Proposal]:
        """The trials that were running when the study was opened, and have not ended; they go on as they are."""
        return list(self._interrupted)

    def remaining(self) -> int:
        """Proposals still to come."""
        trials = self._trials()
        unseen = len(self._baselines.keys() - {trial.user_attrs.get(BASELINE) for trial in trials})
        waiting = sum(trial.state is TrialState.WAITING for trial in trials)
        left = max(0, self._study_file.trials - _sampled(trials))
        if self._grid is not None:
            left = min(left, len(self._untried(trials)))
        return unseen + waiting + left

    def _enqueue_baseline(self) -> bool:
        seen = {trial.user_attrs.get(BASELINE) for trial in self._trials()}
        name = next((name for name in self._baselines if name not in seen), None)
        if name is not None:
            self._study.enqueue_trial(self.space.point(self._baselines[name]) or {}, user_attrs={BASELINE: name})
        return name is not None

    def _enqueue_sample(self) -> bool:
        trials = self._trials()
        untried = self._untried(trials)
        if _sampled(trials) >= self._study_file.trials or (self._grid is not None and not untried):
            return False
        if untried:
            self._study.enqueue_trial(untried[0], user_attrs={GRID: untried[0]})
        return True

    def _untried(self, trials: Sequence[FrozenTrial]) -> list[Point]:
        tried = [trial.user_attrs[GRID] for trial in trials if GRID in trial.user_attrs]
        return [point for point in self._grid or [] if point not in tried]

    def _filled(self, trial: optuna.Trial, infeasible: Callable[[Refused], None]) -> Proposal | None:
        """Suggest what the recipe needs and keep the recipe in the trial."""
        name = trial.user_attrs.get(BASELINE)
        recipe = self._baselines[name] if name else None
        if recipe is None or self.space.point(recipe) is not None:
            point = self.space.suggest(_TrialSource(trial))
        try:
            recipe = recipe or self.space.recipe(point)
        except UserError as error:
            infeasible(Refused(trial.number, self.space.values_at(point), str(error)))
            self.tell(trial.number, State.INFEASIBLE)
            return None
        self._storage.set_trial_user_attr(self._trial_id(trial.number), RECIPE, recipe.model_dump_json())
        return Proposal(trial.number, recipe, self.space.values(recipe), name)

    def _left_running(self, trial: FrozenTrial) -> Proposal | None:
        """What a trial that another process left running tries; None when that process died before it was decided."""
        attributes = trial.user_attrs
        name = attributes.get(BASELINE)
        if RECIPE in attributes:
            recipe = Recipe.model_validate_json(attributes[RECIPE])
            # The corpus may have moved; its place is no part of what the trial is.
            recipe = with_values(recipe, {"data.corpus": self.space.base.data.corpus})
        elif name in self._baselines:
            recipe = self._baselines[name]
        elif GRID in attributes:
            recipe = self.space.recipe(attributes[GRID])
        else:
            self._study.tell(trial.number, state=TrialState.FAIL)
            return None
        return Proposal(trial.number, recipe, self.space.values(recipe), name)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _next_number(self) -> int:
        waiting = self._trials(TrialState.WAITING)
        return waiting[0].number if waiting else len(self._trials())


class _TrialSource:
    """Optuna's define-by-run interface as a source of suggested values."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int) -> int:
        return self._trial.suggest_int(name, low, high)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(name, values)


def _sampled(trials: Iterable[FrozenTrial]) -> int:
    """Trials that count against the budget: not the baselines, nor what a crash left undecided."""
    return sum(
        BASELINE not in trial.user_attrs
        and not (trial.state is TrialState.FAIL and STATE not in trial.user_attrs and RECIPE not in trial.user_attrs)
        for trial in trials
    )


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
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


def _shuffled_grid(space: Space, search: Search) -> list[Point] | None:
    """The grid in an order that covers it early; None for the other samplers."""
    if search.sampler != "grid":
        return None
    grid = space.grid(search.grid_points)
    random.Random(search.seed).shuffle(grid)
    return grid


def _storage(url: str) -> optuna.storages.RDBStorage:
    arguments = {"connect_args": {"timeout": _LOCK_PATIENCE}} if url.startswith("sqlite") else {}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except Exception as error:  # SQLAlchemy, the database's driver and Optuna each raise their own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"Optuna's storage {url} cannot be opened ({reason}); make it writable or correct the URL"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings: grouped TPE is called experimental each time it is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
