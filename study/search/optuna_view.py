"""Optuna's trials as a view of the ledger: how a trial is made from its record, and whether trials are a ledger's.

The ledger is written first and is the truth. Optuna may be ahead of it by trials that a crash left undecided, never
behind it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
import optuna.trial
from optuna.trial import FrozenTrial

from model.errors import UserError
from model.recipe.recipe import Recipe, content_hash
from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord, TrialState
from study.search.quantity import OutsideError, Point, same_point
from study.search.sampling import distributions
from study.search.space import Space

# Attributes of an Optuna trial. One without RECIPE was left by a crash between two writes.
RECIPE, BASELINE, GRID, STATE = "recipe", "baseline", "grid", "state"
_TOLD = {TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE, TrialState.PRUNED: optuna.trial.TrialState.PRUNED}
_MEND = "put back the one that does, or give it an empty one, which is filled from the ledger"

RecipeOf = Callable[[TrialRecord], Recipe]


def told(state: TrialState, value: float | None) -> optuna.trial.TrialState:
    """What Optuna is told of a trial that ended; a value that is no number is none."""
    finite = value is not None and math.isfinite(value)
    return (
        optuna.trial.TrialState.FAIL
        if state is TrialState.COMPLETE and not finite
        else _TOLD.get(state, optuna.trial.TrialState.FAIL)
    )


def undecided() -> FrozenTrial:
    """In the place of a number that the ledger never heard of, because of a crash."""
    return optuna.create_trial(state=optuna.trial.TrialState.FAIL)


class View:
    """Makes Optuna's trials from records, on a study's space, `baselines` and `grid`."""

    def __init__(
        self, study_file: StudyFile, space: Space, baselines: Mapping[str, Recipe], grid: list[Point] | None
    ) -> None:
        self._metric, self._repeat_seed = study_file.objective.metric, study_file.search.repeat_seed
        self._space, self._baselines, self._grid = space, baselines, grid

    def adopted(self, recipe: Recipe, record: TrialRecord, taken: Collection[object] = ()) -> FrozenTrial | str:
        """A trial that ended in another study, or why it does not belong here; `taken` are the baselines tried."""
        if record.state not in _TOLD:
            return f"it is {record.state}, and only complete and pruned trials can be learned from"
        if not math.isfinite(record.metrics.get(self._metric, math.nan)) or not self._shown(record):
            return f"it has no {self._metric}, which this study makes smaller"
        place = self._place_of(recipe, record.baseline, taken)
        return place if isinstance(place, str) else self._trial(record, recipe, *place)

    def again(self, record: TrialRecord, recipe: Recipe | None) -> FrozenTrial:
        """A trial of this study as asking, reporting and telling left it. One that ended needs no recipe for that."""
        if record.source is not None and recipe is not None:
            adopted = self.adopted(recipe, record)
            if isinstance(adopted, FrozenTrial):
                return adopted
        point = record.point
        if point is None:  # an older version did not note it
            point = (self._space.point(self._of_point(recipe)) if recipe is not None else None) or {}
        attributes = {BASELINE: record.baseline} if record.baseline else self._tried(point)
        return self._trial(record, recipe, point, attributes)

    def _place_of(
        self, recipe: Recipe, baseline: str | None, taken: Collection[object]
    ) -> tuple[Point, dict[str, Any]] | str:
        """The point and the attributes of a trial from elsewhere, or why it has none."""
        if baseline is not None and baseline in self._baselines and self._baselines[baseline].hash == recipe.hash:
            if baseline in taken:
                return f"baseline '{baseline}' was tried here already"
            return self._space.point(recipe) or {}, {BASELINE: baseline}
        try:
            point = self._space.found(self._of_point(recipe))
        except OutsideError as error:
            return str(error)
        return point, self._tried(point)

    def _of_point(self, recipe: Recipe) -> Recipe:
        """What its point gives: a repeat has another seed."""
        return self._space.with_base_seed(recipe) if self._repeat_seed else recipe

    def _tried(self, point: Point) -> dict[str, Any]:
        tried = next((known for known in self._grid or [] if same_point(known, point)), None)
        return {GRID: tried} if tried is not None else {}

    def _trial(
        self, record: TrialRecord, recipe: Recipe | None, point: Point, attributes: Mapping[str, Any]
    ) -> FrozenTrial:
        shown, value = self._shown(record), record.metrics.get(self._metric)
        state = told(record.state, value) if record.state.final else optuna.trial.TrialState.RUNNING
        if state is optuna.trial.TrialState.PRUNED:  # Optuna takes what it had shown last
            value = shown[max(shown)] if shown and math.isfinite(shown[max(shown)]) else None
        attributes = dict(attributes) | ({RECIPE: recipe.model_dump_json()} if recipe is not None else {})
        return optuna.create_trial(
            state=state,
            value=value if state in _TOLD.values() else None,
            params=point,
            distributions=distributions(self._space, point) if point else {},
            intermediate_values=shown,
            user_attrs=attributes | ({STATE: record.state.value} if record.state.final else {}),
        )

    def _shown(self, record: TrialRecord) -> dict[int, float]:
        """The objective after each epoch."""
        return {int(epoch["epoch"]): epoch[self._metric] for epoch in record.epochs if self._metric in epoch}


def refuse_other(
    trials: Sequence[FrozenTrial], records: Mapping[int, TrialRecord], recipe_of: RecipeOf, database: str
) -> None:
    """A UserError where the trials are not those of the ledger."""
    last = max(records, default=-1)
    why = f"it has {len(trials)} trials, and the ledger has trial {last:04d}" if last >= len(trials) else None
    for trial in trials:
        why = why or _differs(trial, records.get(trial.number), recipe_of)
    if why is not None:
        raise UserError(f"Optuna's database {database} does not belong to this study's ledger ({why}); {_MEND}")


def _differs(trial: FrozenTrial, record: TrialRecord | None, recipe_of: RecipeOf) -> str | None:
    """How a trial contradicts the ledger. One that is open here may have ended there, but not the other way round."""
    has, name = trial.user_attrs, f"trial {trial.number:04d}"
    if trial.state.is_finished() and (RECIPE in has or STATE in has):
        known = record.state.value if record is not None else "unknown"
        if record is None or not record.state.final or has.get(STATE, known) != known:
            return f"{name} is {has.get(STATE, 'ended')} there, and {known} here"
    if record is None or not record.recipe_hash:  # a point that made no recipe has no hash
        return None
    if RECIPE not in has:  # it was filled in from the ledger where its recipe was lost
        return None if STATE in has else f"{name} was never started there"
    same = content_hash(json.loads(has[RECIPE])) == record.recipe_hash or _same_now(has[RECIPE], record, recipe_of)
    return None if same else f"{name} has another recipe"


def _same_now(recipe: str, record: TrialRecord, recipe_of: RecipeOf) -> bool:
    """Versions of this program that know more keys give a recipe another hash: as this one reads them."""
    try:
        return recipe_of(record).hash == Recipe.model_validate_json(recipe).hash
    except (UserError, ValueError):
        return False
