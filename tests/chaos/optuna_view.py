"""The study as Optuna gets it, rebuilt from the ledger: each trial once, with its state and its figures."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.search.optuna_trials import TRAINABLE, SamplerTrials, export_database, is_untrainable
from study.search.space import Space

STATES = {
    TrialState.COMPLETE: "COMPLETE",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAILED: "FAIL",
    TrialState.INFEASIBLE: "FAIL",
    TrialState.RUNNING: "RUNNING",
    TrialState.INTERRUPTED: "RUNNING",
    TrialState.WAITING: "RUNNING",
}


def assert_optuna_agrees(ledger: Ledger) -> None:
    """In the database that is exported, and in the trials that the sampler of the next session would get."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.db"
        export_database(ledger, path)
        exported = optuna.load_study(study_name=ledger.study.name, storage=f"sqlite:///{path}").get_trials()
    metric = ledger.study.objective.metric
    assert [trial.number for trial in exported] == list(ledger.trials), "Optuna has other trials"
    for trial in exported:
        _assert_same(trial, ledger.trials[trial.number], metric)
    sampled = SamplerTrials(Space(ledger.study.search, ledger.base_recipe), metric, lambda record: {})
    known = {trial.number - 1: trial for trial in sampled.update(ledger.trials)}
    assert list(known) == list(ledger.trials), "the sampler has other trials"
    for number, trial in known.items():
        record = ledger.trials[number]
        if is_untrainable(record, metric):  # it teaches the sampler to stay away, which no failed trial does
            assert trial.state.name == "PRUNED", f"trial {number} is {trial.state.name} for the sampler"
            assert trial.constraints[TRAINABLE] > 0, f"trial {number} breaks no constraint"
        elif record.state.final:
            _assert_same(trial, record, metric)


def _assert_same(trial: FrozenTrial, record: TrialRecord, metric: str) -> None:
    where, curve = f"trial {record.number} in Optuna", record.curve(metric)
    state, value = STATES[record.state], record.metrics.get(metric, math.nan)
    if (state == "COMPLETE" and not math.isfinite(value)) or (state == "PRUNED" and not curve):
        state = "FAIL"  # it shows nothing that could be compared
    assert trial.state.name == state, f"{where} is {trial.state.name}, but {record.state}"
    assert trial.user_attrs["state"] == record.state.value, where
    expected = value if state == "COMPLETE" else curve[max(curve)] if state == "PRUNED" else math.nan
    held = math.nan if trial.value is None else trial.value
    assert _to_text(held) == _to_text(expected), f"{where} has {held}, but {expected}"
    steps = {step: str(float(figure)) for step, figure in trial.intermediate_values.items()}
    assert steps == {epoch: str(float(figure)) for epoch, figure in curve.items()}, where
    if record.point:
        assert trial.params == record.point, where


def _to_text(value: float) -> str:
    """No NaN equals itself, and Optuna takes none, nor an infinite one, as a value."""
    return str(float(value)) if math.isfinite(value) else "none"
