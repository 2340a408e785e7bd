"""The records of a study side by side: the ledger is the truth, MLflow has to agree with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.tracking.flush import count_outdated
from study.tracking.mlflow_runs import NUMBER, PARENT, STUDY
from study.tracking.mlflow_store import client_of, store_uri
from study.tracking.run_content import RETRIES, STATE

MLFLOW = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}


def assert_records_agree(study_folder: Path, tracking_uri: str | None = None) -> None:
    """Every trial is in the ledger and in MLflow once, with the same state and the same curves.

    `tracking_uri`: where to look for the runs, if not where the study sends them (it may send through a gate).
    """
    ledger = Ledger.open(study_folder)
    assert_mlflow_agrees(ledger, tracking_uri)


def assert_mlflow_agrees(ledger: Ledger, uri: str | None = None) -> None:
    """One parent, one run a trial below it, each with the ledger's state, retries and curves, and no row twice."""
    outdated = count_outdated(ledger)
    assert not outdated, f"{outdated} runs are not up to date in MLflow"
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
    for report in record.epochs:
        for name, value in report.metrics.items():
            found.setdefault(name, []).append((report.epoch, _same(value)))
    return found | {name: [(record.epoch, _same(value))] for name, value in record.final_metrics.items()}


def _trial_runs(client: MlflowClient, ledger: Ledger) -> list[Run]:
    experiment = client.get_experiment_by_name(ledger.study.name)
    assert experiment is not None, "MLflow does not have the study"
    runs = list(client.search_runs([experiment.experiment_id], max_results=10_000))
    parents = [run.info.run_id for run in runs if STUDY in run.data.tags]
    assert len(parents) == 1, f"the study has {len(parents)} runs of its own in MLflow"
    nested = [run for run in runs if run.data.tags.get(PARENT) == parents[0]]
    assert len(nested) + 1 == len(runs), "MLflow has runs that are not of the study"
    return nested


def _same(value: float) -> float | str:
    """No number equals itself here."""
    return "nan" if math.isnan(value) else value
