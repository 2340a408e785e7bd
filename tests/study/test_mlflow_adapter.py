"""MLflow shows the study as it was, finds its runs again, and is never in the way."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import click
import mlflow.cli
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from model.errors import UserError
from model.recipe_files import named_recipe
from study.mlflow_adapter import Tracker
from study.mlflow_store import check_uri, store_uri, ui_command
from study.optuna_adapter import Proposal
from study.trial_record import State, TrialRecord

TINY = named_recipe("tiny", "/speech")
ED = Proposal(0, TINY, {"ctc_weight": 0.3, "auxiliary.placement": "none"}, "ed")
SAMPLED = Proposal(1, TINY, {"ctc_weight": 0.2, "auxiliary.placement": "1,3"})


class Store:
    """One real store for all tests, because making its tables takes seconds; each test has its own experiment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = store_uri(None, folder)
        self.client = MlflowClient(tracking_uri=self.uri)

    def tracker(self, name: str, study_id: str | None = None) -> Tracker:
        return Tracker(self.uri, name, self.folder, study_id)

    def runs(self, name: str) -> dict[str, Run]:
        experiment = self.client.get_experiment_by_name(name)
        runs = self.client.search_runs([experiment.experiment_id])
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {run.info.run_name: run for run in runs}

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, metric)]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("study")
    Tracker(None, "first", folder)
    return Store(folder)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_one_experiment_one_parent_and_a_nested_run_a_trial(store: Store) -> None:
    tracker = store.tracker("nested")
    for proposal in (ED, SAMPLED):
        tracker.trial_started(proposal)
    runs = store.runs("nested")
    assert runs.keys() == {"nested", "0000 ed", "0001"}
    parent = runs["nested"].info.run_id
    assert all(runs[name].data.tags["mlflow.parentRunId"] == parent for name in ("0000 ed", "0001"))
    assert "mlflow.parentRunId" not in runs["nested"].data.tags


def test_parameters_are_the_searched_quantities_the_hash_and_the_baseline(store: Store) -> None:
    tracker = store.tracker("parameters")
    for proposal in (ED, SAMPLED):
        tracker.trial_started(proposal)
    runs = store.runs("parameters")
    assert runs["0000 ed"].data.params == {
        "ctc_weight": "0.3",
        "auxiliary.placement": "none",
        "recipe_hash": TINY.hash,
        "baseline": "ed",
    }
    assert runs["0001"].data.params == {"ctc_weight": "0.2", "auxiliary.placement": "1,3", "recipe_hash": TINY.hash}


def test_every_epoch_is_a_point_and_final_figures_stand_at_the_last(store: Store) -> None:
    tracker = store.tracker("curves")
    tracker.trial_started(ED)
    for epoch in (1, 2):
        tracker.epoch(0, epoch, {"dev/wer": 80.0 - epoch, "train/loss_ctc": float(epoch)})
    tracker.trial_ended(0, State.COMPLETE, metrics={"test/test-ood-text/wer": 90.0})
    run = store.runs("curves")["0000 ed"]
    assert store.history(run, "dev/wer") == [(1, 79.0), (2, 78.0)]
    assert store.history(run, "train/loss_ctc") == [(1, 1.0), (2, 2.0)]
    assert store.history(run, "test/test-ood-text/wer") == [(2, 90.0)]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.COMPLETE, "FINISHED"),
        (State.PRUNED, "KILLED"),
        (State.INTERRUPTED, "KILLED"),
        (State.FAILED, "FAILED"),
        (State.INFEASIBLE, "FAILED"),
    ],
)
def test_the_state_is_a_tag_and_the_runs_status(store: Store, state: State, status: str) -> None:
    tracker = store.tracker(f"state-{state}")
    tracker.trial_started(ED)
    assert store.runs(f"state-{state}")["0000 ed"].info.status == "RUNNING"
    tracker.trial_ended(0, state, reason="because")
    run = store.runs(f"state-{state}")["0000 ed"]
    assert (run.info.status, run.data.tags["trial.state"], run.data.tags["trial.reason"]) == (status, state, "because")


def test_artifacts_lie_in_the_study_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    tracker = store.tracker("artifacts")
    tracker.trial_started(ED)
    tracker.trial_ended(0, State.COMPLETE, artifacts=[tmp_path / "recipe.yaml"])
    run = store.runs("artifacts")["0000 ed"]
    assert [file.path for file in store.client.list_artifacts(run.info.run_id)] == ["recipe.yaml"]
    assert run.info.artifact_uri.startswith((store.folder / "artifacts").as_uri())


def test_a_study_opened_again_finds_its_runs_and_goes_on_with_them(store: Store) -> None:
    first = store.tracker("again")
    first.trial_started(ED)
    first.epoch(0, 1, {"dev/wer": 80.0})
    first.trial_ended(0, State.INTERRUPTED)
    first.study_ended("interrupted")
    again = store.tracker("again")
    again.trial_started(ED)
    assert {run.info.status for run in store.runs("again").values()} == {"RUNNING"}
    again.epoch(0, 1, {"dev/wer": 81.0})  # told before; a resumed trial may repeat it
    again.epoch(0, 2, {"dev/wer": 70.0})
    again.trial_ended(0, State.COMPLETE)
    again.study_ended("complete", TrialRecord(0, State.COMPLETE, recipe_hash=TINY.hash))
    runs = store.runs("again")
    assert runs.keys() == {"again", "0000 ed"}
    assert store.history(runs["0000 ed"], "dev/wer") == [(1, 80.0), (2, 70.0)]
    parent = runs["again"]
    assert (parent.info.status, parent.data.tags["study.status"]) == ("FINISHED", "complete")
    assert (parent.data.tags["study.best_trial"], parent.data.tags["study.best_recipe_hash"]) == ("0", TINY.hash)


def test_another_study_of_the_same_name_on_one_server_has_its_own_runs(store: Store) -> None:
    store.tracker("shared", "one").trial_started(ED)
    other = store.tracker("shared", "two")
    other.trial_started(ED)
    experiment = store.client.get_experiment_by_name("shared")
    assert len(store.client.search_runs([experiment.experiment_id])) == 4


def test_a_tracking_error_is_one_warning_and_the_study_goes_on(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    tracker = store.tracker("broken")
    tracker.trial_started(ED)
    store.client.delete_run(store.runs("broken")["0000 ed"].info.run_id)
    with caplog.at_level(logging.WARNING):
        tracker.epoch(0, 1, {"dev/wer": 80.0})
    (record,) = caplog.records
    assert record.getMessage().startswith(f"tracking: epoch was not recorded in {store.uri} (")
    assert "\n" not in record.getMessage()
    tracker.trial_started(SAMPLED)
    assert "0001" in store.runs("broken")


def test_a_missing_artifact_leaves_the_state_right(store: Store, tmp_path: Path) -> None:
    tracker = store.tracker("missing")
    tracker.trial_started(ED)
    tracker.trial_ended(0, State.COMPLETE, artifacts=[tmp_path / "gone"])
    assert store.runs("missing")["0000 ed"].info.status == "FINISHED"


def test_a_value_that_is_not_finite_does_not_stop_tracking(store: Store) -> None:
    tracker = store.tracker("nan")
    tracker.trial_started(ED)
    tracker.epoch(0, 1, {"dev/wer": 50.0, "train/loss": float("nan")})
    assert store.runs("nan")["0000 ed"].data.metrics["dev/wer"] == 50.0


def test_an_epoch_of_a_trial_whose_start_was_not_recorded_makes_its_run(store: Store) -> None:
    tracker = store.tracker("lost")
    tracker.epoch(4, 1, {"dev/wer": 50.0})
    assert store.runs("lost").keys() == {"lost", "0004"}


def test_a_deleted_experiment_is_a_user_error(store: Store) -> None:
    store.tracker("deleted")
    store.client.delete_experiment(store.client.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(UserError, match=r"tracking sqlite.* cannot be opened \(its experiment 'deleted' was deleted"):
        store.tracker("deleted")


def test_the_environment_is_left_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    store.tracker("environment").trial_started(ED)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_uri_that_refuses_connections_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UserError, match=rf"tracking http://127.0.0.1:{port} does not answer \(.*refused\); start the"):
        check_uri(f"http://127.0.0.1:{port}")


def test_a_server_that_hangs_is_refused_within_seconds(silent_server: str) -> None:
    before = time.monotonic()
    with pytest.raises(UserError, match="does not answer"):
        check_uri(silent_server)
    assert time.monotonic() - before < 8


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mlruns", "tracking is 'mlruns', but must be a server"),
        ("file:///tmp/mlruns", "or a database"),
        ("sqlite:////nowhere/at/all/x.db", "the folder /nowhere/at/all does not exist"),
    ],
)
def test_a_uri_that_is_no_server_and_no_database_is_refused(uri: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        check_uri(uri)
    assert words in str(error.value)


def test_a_sqlite_uri_in_a_folder_that_exists_is_accepted(tmp_path: Path) -> None:
    check_uri(f"sqlite:///{tmp_path}/mlflow.db")


def test_the_dashboards_command_is_one_that_mlflow_accepts(store: Store) -> None:
    _, *command = ui_command(store.uri, "127.0.0.1", 5001)
    assert command[:3] == ["-m", "mlflow", "ui"]
    # parsed by MLflow itself, without starting a server
    group = mlflow.cli.cli
    ui = group.get_command(click.Context(group), "ui")
    assert ui is not None
    context = ui.make_context("ui", command[3:])
    parsed = {name: context.params[name] for name in ("backend_store_uri", "host", "port")}
    assert parsed == {"backend_store_uri": store.uri, "host": "127.0.0.1", "port": 5001}


def test_a_server_needs_no_dashboard_command() -> None:
    with pytest.raises(UserError, match="is a server with a page of its own; open it in a browser"):
        ui_command("http://host:5000", "127.0.0.1", 5001)
