"""Studies to tell MLflow of, and what it shows of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient

from model.recipe.files import named_recipe
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

RECIPE = named_recipe("tiny", "/speech")


def trial(ledger: Ledger, number: int, epochs: int = 3, wake: Callable[[], None] = lambda: None) -> None:
    """One whole trial."""
    ledger.trial_started(number, RECIPE, {"ctc_weight": 0.1 + number / 100}, "ed" if number == 0 else None)
    wake()
    for epoch in range(1, epochs + 1):
        ledger.trial_epoch(number, epoch, {"dev/wer": 90.0 - epoch, "train/loss": 4.0 / epoch})
        wake()
    ledger.trial_ended(number, TrialState.COMPLETE, None, {"test/a/wer": 50.0 + number})
    wake()


def whole_study(ledger: Ledger) -> None:
    """Every kind of event, with a resume in the middle."""
    ledger.append("study_started", trials=7, concurrency=2)
    trial(ledger, 0)
    ledger.trial_started(1, RECIPE, {"ctc_weight": 0.2}, None)
    ledger.trial_epoch(1, 1, {"dev/wer": 80.0, "train/loss": math.nan})
    ledger.trial_started(2, RECIPE, {"ctc_weight": 0.3}, None)
    ledger.trial_epoch(2, 1, {"dev/wer": 70.0})
    ledger.trial_ended(1, TrialState.INTERRUPTED, "the study was stopped")
    ledger.append("study_interrupted")  # trial 2 died with it
    ledger.append("study_started", trials=5, concurrency=2)
    ledger.trial_started(1, RECIPE, {"ctc_weight": 0.2}, None)
    ledger.trial_epoch(1, 1, {"dev/wer": 81.0})  # heard before the stop
    ledger.trial_epoch(1, 2, {"dev/wer": 79.0})
    ledger.trial_ended(1, TrialState.PRUNED, "stopped at epoch 2")
    ledger.trial_infeasible(3, {"ctc_weight": 0.5}, "heads 3 do not divide width 128")
    ledger.trial_started(4, RECIPE, {"ctc_weight": 0.4}, None)
    ledger.trial_retried(4, "a worker was lost", 1, "failures.retries")
    ledger.trial_started(4, RECIPE, {"ctc_weight": 0.4}, None)
    ledger.append("something_new", number=4)
    ledger.trial_ended(4, TrialState.FAILED, "no memory")
    ledger.trial_started(5, RECIPE, {"ctc_weight": 0.6}, None)
    ledger.trial_epoch(5, 1, {"dev/wer": 60.0})
    ledger.trial_paused(5, 1, "waits at the rung of epoch 1")
    ledger.trial_imported(6, "elsewhere/3", elsewhere())
    ledger.trial_started(7, RECIPE, {"ctc_weight": 0.7}, None)


def elsewhere() -> TrialRecord:
    """A trial of another study."""
    epochs = ({"epoch": 1, "dev/wer": 55.0}, {"epoch": 2, "dev/wer": 45.0})
    metrics = {"dev/wer": 45.0, "test/a/wer": 65.0}
    values = {"ctc_weight": 0.25}
    return TrialRecord(3, TrialState.COMPLETE, None, None, values, RECIPE.hash, epochs, metrics, 1.7e9, 1.7e9 + 60)


def seen(ledger: Ledger, uri: str | None = None) -> dict[str, dict[str, Any]]:
    """All that MLflow shows of the study's runs, by their names; no name may come twice."""
    client = MlflowClient(tracking_uri=uri or ledger.study.tracking)
    runs = client.search_runs([client.get_experiment_by_name(ledger.study.name).experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {
        run.info.run_name: {
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name.startswith(("trial.", "study."))},
            "nested": "mlflow.parentRunId" in run.data.tags,
            "curves": {name: history(client, run.info.run_id, name) for name in run.data.metrics},
            "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        }
        for run in runs
    }


def history(client: MlflowClient, run: str, name: str) -> list[tuple[int, str, int]]:
    points = client.get_metric_history(run, name)
    return sorted((point.step, str(point.value), point.timestamp) for point in points)


def curve(run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    return [(step, float(value)) for step, value, _ in run["curves"][name]]
