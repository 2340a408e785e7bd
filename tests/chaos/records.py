"""The two records of a study side by side: the ledger is the truth, and MLflow has to hold the same, point by point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.tracking.flush import count_outdated
from study.tracking.mlflow_runs import NUMBER, PARENT, STUDY
from study.tracking.mlflow_store import client_of, store_uri
from study.tracking.run_content import EPOCH, PLACEMENT, REASON, RETRIES, STATE, TRIAL

STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}
Point = tuple[int, str, int]  # epoch, value as text because no NaN equals itself, Unix milliseconds


def assert_records_agree(study_folder: Path, tracking: str | None = None) -> None:
    """One run for the study, one below it for each trial, and each holds exactly what its record holds.

    A run whose trial had epochs replaced was replaced as a whole, so not even one point of theirs is left. `tracking`:
    where the runs are, if not where the study's own copy of its file has them.
    """
    ledger = Ledger.open(study_folder)
    if tracking is not None:
        ledger.study = ledger.study.model_copy(update={"tracking": tracking})
    outdated = count_outdated(ledger)
    assert not outdated, f"{outdated} runs are not up to date in MLflow"
    client = client_of(store_uri(ledger.study.tracking, ledger.folder))
    parent, runs = _read_runs(client, ledger)
    assert parent.data.tags["study.status"] == ledger.trials.study_state.value
    assert parent.info.status == STATUS[ledger.trials.study_state]
    numbers = sorted(int(run.data.tags[NUMBER]) for run in runs)
    assert numbers == list(ledger.trials), f"MLflow has runs of {numbers}, the ledger has {list(ledger.trials)}"
    for run in runs:
        _assert_run_holds(client, run, ledger.trials[int(run.data.tags[NUMBER])])


def _assert_run_holds(client: MlflowClient, run: Run, record: TrialRecord) -> None:
    where, tags = f"trial {record.number} in MLflow", run.data.tags
    assert run.info.status == STATUS[record.state], f"{where} is {run.info.status}, but {record.state}"
    assert (tags[STATE], tags[REASON]) == (record.state.value, record.reason or ""), where
    assert int(tags.get(RETRIES, 0)) == record.retries, where
    assert int(tags.get(EPOCH, 0)) == record.epoch, where
    if record.ended is not None:
        assert run.info.end_time == _milliseconds(record.ended), where
    assert run.data.params == _list_params(record), where
    expected = list_points(record)
    assert set(run.data.metrics) == set(expected), where
    for name, points in expected.items():
        rows = client.get_metric_history(run.info.run_id, name)
        held = sorted((row.step, str(row.value), row.timestamp) for row in rows)
        assert held == points, f"{where}: {name}"


def _list_params(record: TrialRecord) -> dict[str, str]:
    named = {"recipe_hash": record.recipe_hash, "baseline": record.baseline, "class": record.recipe_class}
    layers = str(record.values.get("auxiliary.placement", "")).split(", ")
    words = layers[0] if layers[0] in ("", "none") else f"layer{'s' * (len(layers) > 1)} {' and '.join(layers)}"
    named |= {PLACEMENT: words, TRIAL: str(record.number)}
    return {name: str(value) for name, value in record.values.items()} | {k: v for k, v in named.items() if v}


def list_points(record: TrialRecord) -> dict[str, list[Point]]:
    """The points that MLflow must hold of each metric; final figures stand beside the last epoch once a trial
    ended, those that a later decoding changed with its time."""
    points: dict[str, list[Point]] = defaultdict(list)
    for report in record.epochs:
        for name, value in report.metrics.items():
            points[name].append((report.epoch, str(float(value)), _milliseconds(report.time)))
    if record.ended is not None:
        for name, value in record.final_metrics.items():
            time = record.rescored.get(name, record.ended)
            name = f"chosen/{name}" if name in points else name
            points[name] = [(record.epoch, str(float(value)), _milliseconds(time))]
    return dict(points)


def _read_runs(client: MlflowClient, ledger: Ledger) -> tuple[Run, Iterable[Run]]:
    """The study's own run and the runs below it; an AssertionError where there are others."""
    experiment = client.get_experiment_by_name(ledger.study.name)
    assert experiment is not None, "MLflow has no experiment of this study"
    runs = list(client.search_runs([experiment.experiment_id], max_results=10_000))
    parents = [run for run in runs if STUDY in run.data.tags and PARENT not in run.data.tags]
    assert len(parents) == 1, f"the study has {len(parents)} runs of its own in MLflow"
    nested = [run for run in runs if run.data.tags.get(PARENT) == parents[0].info.run_id]
    assert len(nested) + 1 == len(runs), "MLflow has runs that belong to no trial"
    return parents[0], nested


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
