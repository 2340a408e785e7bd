"""A store takes what it can: what it refuses is left out with one warning, and never stops the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_events import end_trial, report_epoch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from model.errors import UserError
from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.events import TrialDecoded
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking.flush import count_outdated, flush
from study.tracking.sync import Sync

TINY = named_recipe("tiny", "/speech")
Open = Callable[..., Ledger]


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One real store for all tests, because making its tables takes seconds; each test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/runs.db"


@pytest.fixture
def open_study(uri: str, tmp_path: Path) -> Open:
    """Opens a study with one trial after its first epoch."""

    def open_named(name: str, study_id: str = "one") -> Ledger:
        study = {"name": name, "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "tracking": uri}
        ledger = Ledger.create_or_open(
            tmp_path / study_id, StudyFile.model_validate(study), TINY, {"id": f"{name}-{study_id}"}
        )
        ledger.start_trial(0, TINY, {"ctc_weight": 0.3}, "ed")
        report_epoch(ledger, 0, 1, {"dev/wer": 80.0})
        return ledger

    return open_named


def client(ledger: Ledger) -> MlflowClient:
    return MlflowClient(tracking_uri=ledger.study.tracking)


def trial_runs(ledger: Ledger) -> list[Run]:
    """The study's nested runs."""
    experiment = client(ledger).get_experiment_by_name(ledger.study.name)
    runs = client(ledger).search_runs([experiment.experiment_id])
    return [run for run in runs if "trial.number" in run.data.tags]


def only_run(ledger: Ledger) -> Run:
    (run,) = trial_runs(ledger)
    return run


def study_run(ledger: Ledger) -> Run:
    """The study's own run."""
    experiment = client(ledger).get_experiment_by_name(ledger.study.name)
    (run,) = client(ledger).search_runs([experiment.experiment_id], "tags.`trial.role` = 'study'")
    return run


def history(ledger: Ledger, name: str) -> list[tuple[int, float]]:
    """Every row of a metric of the one run: step and value."""
    rows = client(ledger).get_metric_history(only_run(ledger).info.run_id, name)
    return sorted((row.step, row.value) for row in rows)


def test_a_run_that_is_deleted_meanwhile_is_one_warning_and_the_rest_goes_on(
    open_study: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_study("deleted-run")
    running = Sync(ledger)
    while running.sync_batch():
        pass
    client(ledger).delete_run(only_run(ledger).info.run_id)
    report_epoch(ledger, 0, 2, {"dev/wer": 70.0})
    ledger.start_trial(1, TINY, {"ctc_weight": 0.4})
    with caplog.at_level(logging.WARNING):
        assert running.sync_batch() == 2
        end_trial(ledger, 0, TrialState.FAILED)
        assert running.sync_batch() == 1
    (record,) = caplog.records
    assert record.getMessage().startswith(f"tracking: {ledger.study.tracking} refused a part of trial 0000 (")
    assert "\n" not in record.getMessage()
    assert only_run(ledger).data.tags["trial.number"] == "1"


def test_a_run_that_was_deleted_is_made_again_by_the_next_flush(open_study: Open) -> None:
    ledger = open_study("made-again")
    flush(ledger)
    client(ledger).delete_run(only_run(ledger).info.run_id)
    assert flush(ledger) == 1
    assert history(ledger, "dev/wer") == [(1, 80.0)]


def test_a_trial_whose_parameters_changed_has_a_new_run(open_study: Open) -> None:
    ledger = open_study("changed")
    flush(ledger)
    ledger.start_trial(0, TINY, {"ctc_weight": 0.5, "other": 1}, "ed")
    report_epoch(ledger, 0, 2, {"dev/wer": 70.0})
    assert flush(ledger) == 2, "the study's views have a column more"
    assert history(ledger, "dev/wer") == [(1, 80.0), (2, 70.0)]
    assert only_run(ledger).data.params == {
        "ctc_weight": "0.5", "other": "1", "baseline": "ed", "class": "ed", "recipe_hash": TINY.hash, "trial": "0"
    }  # fmt: skip


def test_an_epoch_that_is_reported_again_leaves_no_old_row(open_study: Open) -> None:
    ledger = open_study("again")
    report_epoch(ledger, 0, 2, {"dev/wer": 70.0})
    flush(ledger)
    report_epoch(ledger, 0, 1, {"dev/wer": 60.0})
    assert flush(ledger) == 1
    assert history(ledger, "dev/wer") == [(1, 60.0)]


@pytest.mark.parametrize("verify", [False, True])
def test_what_a_later_decoding_changed_replaces_the_figures_that_mlflow_has(open_study: Open, verify: bool) -> None:
    ledger = open_study(f"decoded-{verify}")
    end_trial(ledger, 0, TrialState.COMPLETE, metrics={"dev/wer_final": 30.0, "dev/wer": 31.0})
    flush(ledger)
    assert only_run(ledger).data.metrics["dev/wer_final"] == 30.0
    time.sleep(0.002)  # an event's time is in milliseconds
    metrics = {"dev/wer_final": 25.0, "dev/wer": 31.0, "test/a/wer": 20.0}
    ledger.append(TrialDecoded(number=0, decoding={}, decoding_hash=TINY.decoding.hash, metrics=metrics))
    assert count_outdated(ledger) == 2, "the trial's run, and the study's own"
    flush(ledger, verify)
    run = only_run(ledger)
    shown = {name: run.data.metrics[name] for name in ("dev/wer_final", "chosen/dev/wer", "test/a/wer")}
    assert shown == {"dev/wer_final": 25.0, "chosen/dev/wer": 31.0, "test/a/wer": 20.0}
    assert history(ledger, "dev/wer_final") == [(1, 25.0)]
    assert study_run(ledger).data.metrics["best/dev/wer_final"] == 25.0
    assert (count_outdated(ledger), flush(ledger)) == (0, 0)


def test_test_sets_that_are_scored_after_the_end_are_added_to_the_run_that_is_there(open_study: Open) -> None:
    ledger = open_study("scored")
    end_trial(ledger, 0, TrialState.COMPLETE, metrics={"dev/wer_final": 30.0})
    flush(ledger)
    run = only_run(ledger)
    metrics = {"dev/wer_final": 30.0, "test/a/wer": 20.0}
    ledger.append(TrialDecoded(number=0, decoding={}, decoding_hash=TINY.decoding.hash, metrics=metrics))
    flush(ledger)
    assert only_run(ledger).info.run_id == run.info.run_id
    assert only_run(ledger).data.metrics == run.data.metrics | {"test/a/wer": 20.0}


def test_a_name_or_parameter_that_mlflow_does_not_take_costs_that_value_alone(
    open_study: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_study("names")
    ledger.start_trial(0, TINY, {"ctc_weight": 0.3, "long": "x" * 9000, "c*d": 1}, "ed")
    report_epoch(ledger, 0, 2, {"dev/wer": 70.0, "a*b": 1.0, "train/loss": 2.0})
    with caplog.at_level(logging.WARNING):
        flush(ledger)
        run_id = only_run(ledger).info.run_id
        report_epoch(ledger, 0, 3, {"dev/wer": 60.0, "a*b": 1.0, "train/loss": 1.0})
        flush(ledger)
    assert only_run(ledger).data.metrics == {"dev/wer": 60.0, "train/loss": 1.0}
    assert only_run(ledger).data.params.keys() == {"ctc_weight", "long", "baseline", "class", "recipe_hash", "trial"}
    assert only_run(ledger).info.run_id == run_id
    assert len(caplog.records) == 2  # one a process


def test_a_deleted_experiment_waits_until_it_is_back(open_study: Open) -> None:
    ledger = open_study("deleted")
    flush(ledger)
    experiment = client(ledger).get_experiment_by_name("deleted").experiment_id
    client(ledger).delete_experiment(experiment)
    report_epoch(ledger, 0, 2, {"dev/wer": 70.0})
    words = (
        r"does not take the runs \(its experiment 'deleted' was deleted; restore it or rename the study\), "
        r"2 are left; correct that and repeat the command$"
    )
    with pytest.raises(UserError, match=words):
        flush(ledger)
    client(ledger).restore_experiment(experiment)
    assert flush(ledger) == 1


def test_another_study_of_the_same_name_on_one_server_has_its_own_runs(open_study: Open) -> None:
    for study_id in ("one", "two"):
        flush(open_study("shared", study_id))
    runs = trial_runs(open_study("shared", "two"))
    assert len(runs) == 2
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 2


def test_files_of_a_study_without_a_server_lie_in_its_folder(open_study: Open) -> None:
    ledger = open_study("files")
    folder = ledger.trial_folder(0)
    (folder / "hypotheses").mkdir()
    (folder / "hypotheses" / "test-a.jsonl").write_text("x")
    end_trial(ledger, 0, TrialState.COMPLETE)
    flush(ledger)
    listed = {file.path for file in client(ledger).list_artifacts(only_run(ledger).info.run_id)}
    assert listed == {"recipe.yaml", "test-a.jsonl"}
    assert only_run(ledger).info.artifact_uri.startswith((ledger.folder / "artifacts").as_uri())


def test_mlflow_keeps_nothing_in_memory_of_runs_whose_files_were_sent(open_study: Open) -> None:
    ledger, before = open_study("places"), len(_artifact_repos_cache)
    end_trial(ledger, 0, TrialState.COMPLETE)
    flush(ledger)
    assert len(_artifact_repos_cache) == before
    client(ledger).log_text(only_run(ledger).info.run_id, "x", "x.txt")
    assert len(_artifact_repos_cache) == before + 1, "it does so of others"


def test_a_place_for_files_that_cannot_be_written_leaves_the_state_right(
    open_study: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_study("no-place")
    (ledger.folder / "artifacts").write_text("in the way")
    end_trial(ledger, 0, TrialState.COMPLETE)
    flush(ledger)
    assert only_run(ledger).info.status == "FINISHED"
    assert ["refused a part of trial 0000" in record.getMessage() for record in caplog.records] == [True]


def test_a_run_that_a_lost_answer_made_twice_is_one_again(open_study: Open) -> None:
    ledger = open_study("twice")
    flush(ledger)
    kept = only_run(ledger)
    twin = {name: kept.data.tags[name] for name in ("mlflow.parentRunId", "trial.number")}
    client(ledger).create_run(kept.info.experiment_id, tags=twin, run_name="0000 ed")
    report_epoch(ledger, 0, 2, {"dev/wer": 70.0})
    flush(ledger)
    assert only_run(ledger).info.run_id == kept.info.run_id


@pytest.mark.parametrize("is_same", [True, False])
def test_a_run_of_a_version_without_fingerprints_is_kept_where_it_is_right_and_replaced_where_not(
    is_same: bool, open_study: Open
) -> None:
    ledger = open_study(f"older-{is_same}")
    flush(ledger)
    old = only_run(ledger).info.run_id
    client(ledger).delete_tag(old, "sync.fingerprint")
    if not is_same:
        client(ledger).log_metric(old, "dev/wer", 79.0, timestamp=1, step=1)
    assert flush(ledger) == 1
    assert (only_run(ledger).info.run_id == old) == is_same
    assert history(ledger, "dev/wer") == [(1, 80.0)]
