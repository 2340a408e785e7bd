"""MLflow has a study's runs whole and once, on every store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from contracts.tracked_study import RECIPE, curve, read_runs, write_trial, write_whole_study
from mlflow import MlflowClient

from study.ledger.events import StudyEnded
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking.flush import count_outdated, flush
from study.tracking.tracker import Tracker


def test_a_study_has_every_state_parameter_and_epoch(ledger: Ledger) -> None:
    write_whole_study(ledger)
    assert count_outdated(ledger) == 9
    assert flush(ledger) == 9
    assert count_outdated(ledger) == 0
    runs = read_runs(ledger)
    study = runs.pop(ledger.study.name)
    assert (study["status"], study["nested"]) == ("RUNNING", False)
    assert all(run["nested"] for run in runs.values())
    assert {name: (run["tags"]["trial.state"], run["status"]) for name, run in runs.items()} == {
        "0000 ed": ("complete", "FINISHED"),
        "0001": ("pruned", "KILLED"),
        "0002": ("interrupted", "KILLED"),
        "0003": ("infeasible", "FAILED"),
        "0004": ("failed", "FAILED"),
        "0005": ("waiting", "SCHEDULED"),
        "0006": ("complete", "FINISHED"),
        "0007": ("running", "RUNNING"),
    }
    assert runs["0000 ed"]["params"] == {
        "ctc_weight": "0.1",
        "recipe_hash": RECIPE.hash,
        "baseline": "ed",
        "class": "ed",
        "trial": "0",
    }
    assert runs["0003"]["params"] == {"ctc_weight": "0.5", "trial": "3"}
    assert curve(runs["0000 ed"], "dev/wer") == [(1, 89.0), (2, 88.0), (3, 87.0)]
    assert curve(runs["0000 ed"], "test/a/wer") == [(3, 50.0)]
    assert curve(runs["0001"], "dev/wer") == [(1, 81.0), (2, 79.0)]
    assert curve(runs["0006"], "dev/wer") == [(1, 55.0), (2, 45.0)]
    assert curve(runs["0006"], "test/a/wer") == [(2, 65.0)]
    assert runs["0000 ed"]["files"] == ["recipe.yaml"]
    assert (runs["0004"]["tags"]["trial.retries"], runs["0006"]["tags"]["trial.source"]) == ("1", "elsewhere/3")
    assert runs["0003"]["tags"]["trial.reason"] == "heads 3 do not divide width 128"
    assert (runs["0006"]["started"], runs["0006"]["ended"]) == (1_700_000_000_000, 1_700_000_060_000)
    record, run = ledger.trials[0], runs["0000 ed"]
    assert (run["started"], run["ended"]) == tuple(round(1000 * (at or 0)) for at in (record.started, record.ended))
    assert run["curves"]["dev/wer"][0][2] == round(1000 * record.epochs[0].time)


def test_the_end_of_a_study_names_its_best_trial(open_study: Callable[[str], Ledger], file: str) -> None:
    ledger = open_study(file)
    write_trial(ledger, 0)
    ledger.append(StudyEnded(state=TrialState.COMPLETE, best=0, best_recipe_hash=RECIPE.hash))
    flush(ledger)
    study = read_runs(ledger)[ledger.study.name]
    best = {"study.best_trial": "0", "study.best_recipe_hash": RECIPE.hash, "study.status": "complete"}
    best |= {"trial.role": "study", "study.id": ledger.manifest["id"]}
    assert study["tags"].items() >= best.items()
    assert study["status"] == "FINISHED"


def test_before_its_first_event_a_study_has_no_run(ledger: Ledger, start_tracker: Callable[[Ledger], Tracker]) -> None:
    tracker = start_tracker(ledger)
    tracker.wake()
    assert tracker.close(60) == 0
    client = MlflowClient(tracking_uri=ledger.study.tracking)
    assert client.get_experiment_by_name(ledger.study.name) is None


def test_what_is_sent_twice_is_kept_once(ledger: Ledger) -> None:
    write_whole_study(ledger)
    flush(ledger)
    first, ids = read_runs(ledger), find_run_ids(ledger)
    assert flush(ledger) == 0
    # As after a crash between a run's points and its last tags.
    client = MlflowClient(tracking_uri=ledger.study.tracking)
    for tag in ("sync.fingerprint", "trial.epoch"):
        client.delete_tag(ids["0000 ed"], tag)
    assert count_outdated(ledger) == 1
    assert flush(ledger) == 1
    assert flush(ledger, verify=True) == 9
    assert (read_runs(ledger), find_run_ids(ledger)) == (first, ids)


def test_an_epoch_that_is_reported_again_replaces_what_mlflow_has(
    ledger: Ledger, start_tracker: Callable[[Ledger], Tracker]
) -> None:
    tracker = start_tracker(ledger)
    write_whole_study(ledger)
    tracker.wake()
    assert tracker.close(60) == 0
    assert count_outdated(ledger) == 0
    run = read_runs(ledger)["0001"]
    assert curve(run, "dev/wer") == [(1, 81.0), (2, 79.0)]
    assert curve(run, "train/loss") == [(1, 3.0), (2, 2.0)]


def test_an_empty_mlflow_is_filled_from_the_ledger_with_the_same_runs(
    ledger: Ledger, start_tracker: Callable[[Ledger], Tracker], empty_file: Path, tmp_path: Path
) -> None:
    tracker = start_tracker(ledger)
    write_whole_study(ledger)
    tracker.wake()
    assert tracker.close(60) == 0
    first = read_runs(ledger)
    shutil.copy(empty_file, tmp_path / "empty.db")
    other = ledger.study.model_copy(update={"tracking": f"sqlite:///{tmp_path}/empty.db"})
    shutil.copytree(ledger.folder, tmp_path / "copy")
    copied = Ledger(tmp_path / "copy", other, ledger.base_recipe, ledger.manifest)
    assert flush(copied, verify=True) == 9
    assert read_runs(copied) == first


def find_run_ids(ledger: Ledger) -> dict[str, str]:
    """The ids of the study's runs by their names."""
    client = MlflowClient(tracking_uri=ledger.study.tracking)
    runs = client.search_runs([client.get_experiment_by_name(ledger.study.name).experiment_id])
    return {run.info.run_name: run.info.run_id for run in runs}
