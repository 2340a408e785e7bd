"""Studies to bring to MLflow, and what it shows of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ledger_events import end_trial, report_epoch
from mlflow import MlflowClient

from model.recipe.files import named_recipe
from study.ledger.events import EpochReport, StudyInterrupted, TrialEnded, TrialImported, TrialPaused, TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

RECIPE = named_recipe("tiny", "/speech")


def write_trial(ledger: Ledger, number: int, epochs: int = 3, wake: Callable[[], None] = lambda: None) -> None:
    """One whole trial."""
    ledger.start_trial(number, RECIPE, {"ctc_weight": 0.1 + number / 100}, "ed" if number == 0 else None)
    wake()
    for epoch in range(1, epochs + 1):
        report_epoch(ledger, number, epoch, {"dev/wer": 90.0 - epoch, "train/loss": 4.0 / epoch})
        wake()
    end_trial(ledger, number, TrialState.COMPLETE, None, {"test/a/wer": 50.0 + number})
    wake()


def write_whole_study(ledger: Ledger) -> None:
    """Every kind of event, with a resume in the middle that reports an epoch again."""
    ledger.start_session(7, 2)
    write_trial(ledger, 0)
    ledger.start_trial(1, RECIPE, {"ctc_weight": 0.2})
    report_epoch(ledger, 1, 1, {"dev/wer": 80.0, "train/loss": math.nan})
    report_epoch(ledger, 1, 2, {"dev/wer": 78.0, "train/loss": 1.0})
    ledger.start_trial(2, RECIPE, {"ctc_weight": 0.3})
    report_epoch(ledger, 2, 1, {"dev/wer": 70.0})
    end_trial(ledger, 1, TrialState.INTERRUPTED, "the study was stopped")
    ledger.append(StudyInterrupted())  # trial 2 with it
    ledger.start_session(5, 2)
    ledger.start_trial(1, RECIPE, {"ctc_weight": 0.2})
    report_epoch(ledger, 1, 1, {"dev/wer": 81.0, "train/loss": 3.0})  # replaces both that were reported before
    report_epoch(ledger, 1, 2, {"dev/wer": 79.0, "train/loss": 2.0})
    end_trial(ledger, 1, TrialState.PRUNED, "stopped at epoch 2")
    reason = "heads 3 do not divide width 128"
    ledger.append(TrialEnded(number=3, state=TrialState.INFEASIBLE, values={"ctc_weight": 0.5}, reason=reason))
    ledger.start_trial(4, RECIPE, {"ctc_weight": 0.4})
    ledger.append(TrialRetried(number=4, reason="a worker was lost", count=1, setting="failures.retries"))
    ledger.start_trial(4, RECIPE, {"ctc_weight": 0.4})
    end_trial(ledger, 4, TrialState.FAILED, "no memory")
    ledger.start_trial(5, RECIPE, {"ctc_weight": 0.6})
    report_epoch(ledger, 5, 1, {"dev/wer": 60.0})
    ledger.append(TrialPaused(number=5, epoch=1, reason="waits at the rung of epoch 1"))
    ledger.append(imported_trial(6))
    ledger.start_trial(7, RECIPE, {"ctc_weight": 0.7})


def imported_trial(number: int) -> TrialImported:
    """A trial of another study; its first epoch is of format 1, which has no time of its own."""
    return TrialImported(
        number=number,
        source="elsewhere/3",
        recipe_hash=RECIPE.hash,
        values={"ctc_weight": 0.25},
        epochs=(
            EpochReport(epoch=1, metrics={"dev/wer": 55.0}),
            EpochReport(epoch=2, metrics={"dev/wer": 45.0}, time=1.7e9 + 50),
        ),
        state=TrialState.COMPLETE,
        metrics={"test/a/wer": 65.0},
        started=1.7e9,
        ended=1.7e9 + 60,
    )


def read_runs(ledger: Ledger, uri: str | None = None) -> dict[str, dict[str, Any]]:
    """All that MLflow shows of the study's runs, by their names; no name may come twice.

    The end of a run that continues is left out: MLflow keeps the one of its interruption.
    """
    client = MlflowClient(tracking_uri=uri or ledger.study.tracking)
    runs = client.search_runs([client.get_experiment_by_name(ledger.study.name).experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {
        run.info.run_name: {
            "status": run.info.status,
            "started": run.info.start_time,
            "ended": None if run.info.status in ("RUNNING", "SCHEDULED") else run.info.end_time,
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name.startswith(("trial.", "study."))},
            "nested": "mlflow.parentRunId" in run.data.tags,
            "curves": {name: read_history(client, run.info.run_id, name) for name in run.data.metrics},
            "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        }
        for run in runs
    }


def read_history(client: MlflowClient, run: str, name: str) -> list[tuple[int, str, int]]:
    """Every row of one metric: step, value, Unix milliseconds."""
    points = client.get_metric_history(run, name)
    return sorted((point.step, str(point.value), point.timestamp) for point in points)


def curve(run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """The metric by epoch."""
    return [(step, float(value)) for step, value, _ in run["curves"][name]]
