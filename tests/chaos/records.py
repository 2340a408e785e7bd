"""The three records of a study side by side: the ledger is the truth, Optuna and MLflow have to say the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from study.search.optuna_store import storage_url
from study.tracking.delivery import waiting
from study.tracking.mlflow_adapter import NUMBER, PARENT, STUDY
from study.tracking.telling import RETRIES, STATE

from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.tracking.mlflow_store import client_of, store_uri

OPTUNA = {
    TrialState.WAITING: "RUNNING",
    TrialState.RUNNING: "RUNNING",
    TrialState.INTERRUPTED: "RUNNING",
    TrialState.COMPLETE: "COMPLETE",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAILED: "FAIL",
    TrialState.INFEASIBLE: "FAIL",
}
MLFLOW = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}
OPEN = ("RUNNING", "WAITING")  # in Optuna: will go on, or be asked for


def assert_records_agree(study_folder: Path, tracking_uri: str | None = None) -> None:
    """Every trial is in the ledger, in Optuna and in MLflow once, with the same state and the same curves.

    `tracking_uri`: where to look for the runs, if not where the study sends them (it may send through a gate).
    """
    ledger = Ledger.open(study_folder)
    assert_optuna_agrees(ledger)
    assert_mlflow_agrees(ledger, tracking_uri)


def assert_optuna_agrees(ledger: Ledger) -> None:
    """Same numbers, states, values and rungs; nothing else is there, but what an unfinished study still has open."""
    objective, records = ledger.study.objective.metric, ledger.trials
    storage = storage_url(ledger.study, ledger.folder)
    trials = optuna.load_study(study_name=ledger.study.name, storage=storage).get_trials()
    told = {trial.number: trial for trial in trials}
    assert len(told) == len(trials), f"Optuna has a number twice: {[trial.number for trial in trials]}"
    assert told.keys() >= records.keys(), f"Optuna never heard of {sorted(records.keys() - told.keys())}"
    left = {number: told[number].state.name for number in told.keys() - records.keys()}
    if ledger.has_ended():
        assert not left, f"Optuna has trials that the ledger does not know: {left}"
    assert all(state in OPEN for state in left.values()), f"Optuna ended what the ledger does not know: {left}"
    for number, record in records.items():
        trial, value = told[number], record.metrics.get(objective)
        assert trial.state.name == OPTUNA[record.state], f"trial {number} is {record.state}, in Optuna {trial.state}"
        if record.state is TrialState.COMPLETE:
            assert trial.value == value, f"trial {number} has {value}, in Optuna {trial.value}"
        shown = {int(epoch["epoch"]): _same(epoch[objective]) for epoch in record.epochs if objective in epoch}
        rungs = {step: _same(value) for step, value in trial.intermediate_values.items()}
        assert rungs == shown, f"trial {number}: Optuna has {rungs}, the ledger {shown}"


def assert_mlflow_agrees(ledger: Ledger, uri: str | None = None) -> None:
    """One parent, one run a trial below it, each with the ledger's state, retries and curves, and no row twice."""
    left = waiting(ledger)
    assert not left, f"{left} events wait for MLflow"
    records = ledger.trials
    client = client_of(uri or store_uri(ledger.study.tracking, ledger.folder))
    runs = _trial_runs(client, ledger)
    numbers = sorted(int(run.data.tags[NUMBER]) for run in runs)
    assert numbers == sorted(records), f"MLflow has runs of {numbers}, the ledger has {sorted(records)}"
    for run in runs:
        record = records[int(run.data.tags[NUMBER])]
        where = f"trial {record.number} in MLflow"
        assert run.info.status == MLFLOW[record.state], f"{where} is {run.info.status}, but {record.state}"
        assert run.data.tags[STATE] == record.state.value, where
        assert int(run.data.tags.get(RETRIES, 0)) == record.retries, where
        expected = curves(record)
        assert set(run.data.metrics) == set(expected), where
        for name, points in expected.items():
            rows = [(row.step, _same(row.value)) for row in client.get_metric_history(run.info.run_id, name)]
            assert sorted(rows, key=lambda row: row[0]) == points, f"{where}: {name}"


def curves(record: TrialRecord) -> dict[str, list[tuple[int, Any]]]:
    """The rows that MLflow should have of each metric; final figures stand beside the last epoch."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for epoch in record.epochs:
        for name, value in epoch.items():
            if name != "epoch":
                found.setdefault(name, []).append((int(epoch["epoch"]), _same(value)))
    last = int(record.epochs[-1]["epoch"]) if record.epochs else 0
    final = {name: [(last, _same(value))] for name, value in record.metrics.items() if name not in found}
    return found | final


def _trial_runs(client: MlflowClient, ledger: Ledger) -> list[Run]:
    experiment = client.get_experiment_by_name(ledger.study.name)
    assert experiment is not None, "MLflow never heard of the study"
    runs = list(client.search_runs([experiment.experiment_id], max_results=10_000))
    parents = [run.info.run_id for run in runs if STUDY in run.data.tags]
    assert len(parents) == 1, f"the study has {len(parents)} runs of its own in MLflow"
    nested = [run for run in runs if run.data.tags.get(PARENT) == parents[0]]
    assert len(nested) + 1 == len(runs), "MLflow has runs that belong to nobody"
    return nested


def _same(value: float) -> float | str:
    """No number equals itself here."""
    return "nan" if math.isnan(value) else value
