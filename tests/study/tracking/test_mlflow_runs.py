"""A store takes what it can: what it refuses is left out with one warning, and never stops the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from study.tracking.delivery import CURSOR, note, waiting, writer
from study.tracking.tracking import flush, rebuild

from model.errors import UserError
from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

TINY = named_recipe("tiny", "/speech")
Open = Callable[..., Ledger]


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One real store for all tests, because making its tables takes seconds; each test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/runs.db"


@pytest.fixture
def opened(uri: str, tmp_path: Path) -> Open:
    def make(name: str, study_id: str = "one") -> Ledger:
        study = {"name": name, "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "tracking": uri}
        ledger = Ledger.create_or_open(
            tmp_path / study_id, StudyFile.model_validate(study), TINY, {"id": f"{name}-{study_id}"}
        )
        ledger.append("study_started", trials=1, concurrency=1)
        ledger.trial_started(0, TINY, {"ctc_weight": 0.3}, "ed")
        ledger.trial_epoch(0, 1, {"dev/wer": 80.0})
        return ledger

    return make


def client(ledger: Ledger) -> MlflowClient:
    return MlflowClient(tracking_uri=ledger.study.tracking)


def runs(ledger: Ledger) -> list[Run]:
    """The study's nested runs."""
    experiment = client(ledger).get_experiment_by_name(ledger.study.name)
    found = client(ledger).search_runs([experiment.experiment_id])
    return [run for run in found if "trial.number" in run.data.tags]


def only(ledger: Ledger) -> Run:
    (run,) = runs(ledger)
    return run


def test_a_deleted_run_is_one_warning_and_the_rest_goes_on(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    ledger = opened("deleted-run")
    flush(ledger)
    run = only(ledger)
    # Deleted behind the sender's back: between its look at the runs and its next word to them.
    from study.tracking import mlflow_adapter

    store = mlflow_adapter.Store(ledger.study, ledger.folder, ledger.manifest["id"], 0.0)
    store.open()
    client(ledger).delete_run(run.info.run_id)
    from study.tracking.telling import Telling

    ledger.trial_epoch(0, 2, {"dev/wer": 70.0})
    ledger.trial_ended(0, TrialState.COMPLETE)
    ledger.trial_started(1, TINY, {"ctc_weight": 0.4}, None)
    with caplog.at_level(logging.WARNING):
        for change in Telling().changes(ledger.events()):
            store.apply(change, [])
    (record,) = caplog.records
    assert record.getMessage().startswith(f"tracking: {ledger.study.tracking} refused a part of trial 0000 (")
    assert "\n" not in record.getMessage()
    assert only(ledger).data.tags["trial.number"] == "1"


def test_a_parameter_that_changed_takes_no_metric_along(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    ledger = opened("changed")
    ledger.trial_started(0, TINY, {"ctc_weight": 0.9, "other": 1}, "ed")
    flush(ledger)
    ledger.trial_started(0, TINY, {"ctc_weight": 0.5, "other": 1}, "ed")
    ledger.trial_epoch(0, 2, {"dev/wer": 70.0})
    with caplog.at_level(logging.WARNING):
        assert flush(ledger) == 2
    assert waiting(ledger) == 0
    assert ["refused a part of trial 0000" in record.getMessage() for record in caplog.records] == [True]
    run = only(ledger)
    assert (run.data.metrics["dev/wer"], run.data.params["ctc_weight"]) == (70.0, "0.9")


def test_a_name_that_mlflow_does_not_take_costs_that_value_alone(opened: Open) -> None:
    ledger = opened("names")
    ledger.trial_epoch(0, 2, {"dev/wer": 70.0, "a*b": 1.0, "train/loss": 2.0})
    flush(ledger)
    assert only(ledger).data.metrics == {"dev/wer": 70.0, "train/loss": 2.0}


def test_a_deleted_experiment_waits_until_it_is_back(opened: Open) -> None:
    ledger = opened("deleted")
    flush(ledger)
    experiment = client(ledger).get_experiment_by_name("deleted").experiment_id
    client(ledger).delete_experiment(experiment)
    ledger.trial_epoch(0, 2, {"dev/wer": 70.0})
    with pytest.raises(UserError, match=r"experiment 'deleted' was deleted; restore it or rename the study\), 1 wait"):
        flush(ledger)
    client(ledger).restore_experiment(experiment)
    assert flush(ledger) == 1


def test_another_study_of_the_same_name_on_one_server_has_its_own_runs(opened: Open) -> None:
    for study_id in ("one", "two"):
        ledger = opened("shared", study_id)
        flush(ledger)
    assert len(runs(ledger)) == 2
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs(ledger)}) == 2


def test_artifacts_of_a_study_without_a_server_lie_in_its_folder(opened: Open) -> None:
    ledger = opened("files")
    folder = ledger.trial_folder(0)
    (folder / "hypotheses").mkdir()
    for name in ("hypotheses/test-a.jsonl", "error-0.txt", "broken-batch-0.json", "broken-batch-0.safetensors"):
        (folder / name).write_text("x")
    ledger.trial_ended(0, TrialState.FAILED, "why")
    flush(ledger)
    listed = {file.path for file in client(ledger).list_artifacts(only(ledger).info.run_id)}
    assert listed == {"recipe.yaml", "test-a.jsonl", "error-0.txt", "broken-batch-0.json"}
    assert only(ledger).info.artifact_uri.startswith((ledger.folder / "artifacts").as_uri())


def test_a_place_for_artifacts_that_cannot_be_written_leaves_the_state_right(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened("no-place")
    (ledger.folder / "artifacts").write_text("in the way")
    ledger.trial_ended(0, TrialState.COMPLETE)
    flush(ledger)
    assert only(ledger).info.status == "FINISHED"
    assert ["refused a part of trial 0000" in record.getMessage() for record in caplog.records] == [True]


def test_a_run_that_came_twice_by_a_lost_answer_is_one_again(opened: Open) -> None:
    ledger = opened("twice")
    flush(ledger)
    kept = only(ledger)
    twin = {name: kept.data.tags[name] for name in ("mlflow.parentRunId", "trial.number")}
    client(ledger).create_run(kept.info.experiment_id, tags=twin, run_name="0000 ed")
    ledger.trial_epoch(0, 2, {"dev/wer": 70.0})
    flush(ledger)
    assert only(ledger).info.run_id == kept.info.run_id


def test_runs_that_an_older_version_told_at_other_times_get_no_second_point(opened: Open) -> None:
    ledger = opened("older")
    ledger.trial_ended(0, TrialState.COMPLETE, None, {"test/a/wer": 50.0})
    flush(ledger)
    events = (ledger.folder / "events.jsonl").read_text()
    (ledger.folder / "events.jsonl").write_text(events.replace('"time": 1', '"time": 2'))
    (ledger.folder / CURSOR).unlink()
    rebuild(ledger)
    run = only(ledger).info.run_id
    assert [len(client(ledger).get_metric_history(run, name)) for name in ("dev/wer", "test/a/wer")] == [1, 1]


def test_a_cursor_that_no_longer_fits_the_ledger_begins_anew_and_doubles_nothing(opened: Open) -> None:
    ledger = opened("cut")
    flush(ledger)
    note(ledger, ledger.study.tracking or "", 7)  # in the middle of a line
    assert waiting(ledger) == 3
    flush(ledger)
    note(ledger, ledger.study.tracking or "", 10**9)
    assert waiting(ledger) == 3
    flush(ledger)
    assert len(client(ledger).get_metric_history(only(ledger).info.run_id, "dev/wer")) == 1
    assert waiting(ledger) == 0


def test_there_is_one_writer_at_a_time(opened: Open, uri: str) -> None:
    ledger = opened("turn")
    sent: list[int] = []
    with writer(uri, ledger.folder):
        other = threading.Thread(target=lambda: sent.append(flush(ledger)))
        other.start()
        other.join(1.0)
        assert other.is_alive()
    other.join(30)
    assert sent == [3]
