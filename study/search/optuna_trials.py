"""A study's trials as Optuna knows them: for the sampler while a study runs, and as a database for Optuna's own tools.

Optuna's trials are made from the ledger. Nothing is read back from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from model.errors import NonFiniteLossError, UserError
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.search.quantity import Point
from study.search.sampling import find_distributions
from study.search.space import Space

TRAINABLE = "trainable"  # a constraint of Optuna's that points break which cannot be trained
_OPTUNA = optuna.trial.TrialState
_STATES = {
    TrialState.COMPLETE: _OPTUNA.COMPLETE,
    TrialState.PRUNED: _OPTUNA.PRUNED,
    TrialState.FAILED: _OPTUNA.FAIL,
    TrialState.INFEASIBLE: _OPTUNA.FAIL,
    TrialState.RUNNING: _OPTUNA.RUNNING,
    TrialState.INTERRUPTED: _OPTUNA.RUNNING,
    TrialState.WAITING: _OPTUNA.RUNNING,
}


class SamplerTrials:
    """The records as frozen trials for the sampler; a record that did not change is not converted again."""

    def __init__(
        self,
        space: Space,
        metric: str,
        find_point: Callable[[TrialRecord], Point],
        limits: Mapping[str, float] | None = None,
        second: str | None = None,
    ) -> None:
        """`find_point` gives the point of a record that has none; `limits` are the objective's, by metric; `second` is
        the second metric of a sampler that minimises two."""
        self._space, self._metric, self._find_point, self._limits = space, metric, find_point, dict(limits or {})
        self._second = second
        self._converted: dict[int, tuple[TrialRecord, FrozenTrial]] = {}

    def update(self, records: Mapping[int, TrialRecord]) -> list[FrozenTrial]:
        """All records as frozen trials, Optuna's numbers being the records' plus 1.

        A paused trial that has reported anything enters as a pruned one: TPE counts a running trial as bad, while a
        value at a rung is worth as much from a paused trial as from a stopped one. So does one that cannot be trained:
        TPE looks at no failed trial, and would propose its like again.
        """
        for number, record in records.items():
            converted = self._converted.get(number)
            if converted is None or converted[0] is not record:
                paused = record.state is TrialState.WAITING and bool(record.curve(self._metric))
                state = _OPTUNA.PRUNED if paused or is_untrainable(record, self._metric) else None
                with_point = record if record.point is not None else replace(record, point=self._find_point(record))
                trial = convert_record(with_point, self._space, self._metric, number + 1, state, self._limits)
                if self._second is not None:
                    _add_second(trial, record.metrics.get(self._second, math.nan))
                self._converted[number] = (record, trial)
        return [trial for _, trial in self._converted.values()]


def convert_record(
    record: TrialRecord,
    space: Space,
    metric: str,
    number: int,
    state: optuna.trial.TrialState | None = None,
    limits: Mapping[str, float] | None = None,
) -> FrozenTrial:
    """The record as a trial of Optuna's, with the objective after each epoch as intermediate value.

    `state` replaces the state that corresponds to the record's. A complete trial whose objective is not finite counts
    as failed; a baseline outside the space has no parameters. The `limits` of metrics are constraints.
    """
    curve, value = record.curve(metric), record.metrics.get(metric)
    state = _STATES[record.state] if state is None else state
    if state is _OPTUNA.COMPLETE and (value is None or not math.isfinite(value)):
        state = _OPTUNA.FAIL
    if record.state is TrialState.PRUNED and not curve:  # a person stopped it before it showed anything
        state = _OPTUNA.FAIL
    if state is _OPTUNA.PRUNED:  # the value of a pruned trial is its last one
        value = curve[max(curve)] if curve and math.isfinite(curve[max(curve)]) else None
    point: Point = record.point or {}
    trial = optuna.create_trial(
        state=state,
        value=value if state in (_OPTUNA.COMPLETE, _OPTUNA.PRUNED) else None,
        params=point,
        distributions=find_distributions(space, point) if point else {},
        intermediate_values=curve,
        user_attrs=_make_attributes(record),
    )
    trial.number = number
    if is_untrainable(record, metric):
        trial.set_constraint(TRAINABLE, 1.0)
    for name, limit in (limits or {}).items() if state in (_OPTUNA.COMPLETE, _OPTUNA.PRUNED) else ():
        if math.isfinite(figure := record.metrics.get(name, math.nan)):
            trial.set_constraint(name, figure / limit - 1)  # shares, since the sampler adds up what is broken
    started = record.started or record.ended
    if started is not None:
        trial.datetime_start = datetime.fromtimestamp(started)  # as Optuna's own: of this machine's time zone
    if record.ended is not None and state.is_finished():
        trial.datetime_complete = datetime.fromtimestamp(record.ended)
    return trial


def _add_second(trial: FrozenTrial, value: float) -> None:
    """Give a trial of one objective the value of a second one.

    A complete trial without it counts as failed. One that was stopped loses its values after each epoch, and so counts
    as bad: Optuna compares stopped trials of one objective only.
    """
    if trial.state is _OPTUNA.COMPLETE and math.isfinite(value):
        trial.values = [*trial.values, value]
        return
    if trial.state is _OPTUNA.COMPLETE:
        trial.state = _OPTUNA.FAIL
    trial.values, trial.intermediate_values = None, {}


def is_untrainable(record: TrialRecord, metric: str) -> bool:
    """Whether the trial's own point is why it has no value: it decodes to no recipe, does not fit into memory, or its
    loss or objective was not finite. Trials that failed otherwise say nothing about their points."""
    if record.state is TrialState.INFEASIBLE:
        return True
    if record.state is TrialState.FAILED and (record.reason or "").startswith(NonFiniteLossError.__name__):
        return True
    final = [record.metrics[metric]] if metric in record.metrics else []
    if record.state is TrialState.FAILED:
        final += record.curve(metric).values()
    return record.state in (TrialState.FAILED, TrialState.COMPLETE) and not all(map(math.isfinite, final))


def export_database(ledger: Ledger, path: Path) -> int:
    """Write the trials as an Optuna study named like the ledger's into a new SQLite file; returns their number."""
    if path.exists():
        raise UserError(f"{path} exists already; give another file, or remove it")
    space, metric = Space(ledger.study.search, ledger.base_recipe), ledger.study.objective.metric
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(study_name=ledger.study.name, storage=f"sqlite:///{path.resolve()}")
    except Exception as error:  # SQLAlchemy's errors
        raise UserError(
            f"{path} cannot be written ({str(error).splitlines()[0]}); give a path that can be written"
        ) from None
    study.set_user_attr("objective", metric)
    for number in range(max(ledger.trials, default=-1) + 1):
        record = ledger.trials.get(number)
        trial = (
            optuna.create_trial(state=_OPTUNA.FAIL) if record is None else convert_record(record, space, metric, number)
        )
        study.add_trial(trial)
    return len(ledger.trials)


def _make_attributes(record: TrialRecord) -> dict[str, str]:
    attributes = {
        "state": record.state.value,
        "baseline": record.baseline,
        "recipe_hash": record.recipe_hash,
        "reason": record.reason,
        "source": record.source,
    }
    return {name: value for name, value in attributes.items() if value}
