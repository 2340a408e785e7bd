"""A session records what happens to its trials, then updates its observers."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from ledger_events import list_kinds
from open_session import OpenSession, report

from model.errors import UserError
from study.execution.session import NEVER_PROMOTED
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.proposal import InfeasiblePoint
from study.workers.failure import Failure, FailureKind


def test_a_trial_is_on_the_disk_before_it_is_returned(running: OpenSession) -> None:
    trial = running.session.next()
    assert trial is not None
    assert (trial.number, trial.is_baseline) == (0, True)
    on_disk = Ledger.open(running.ledger.folder)
    assert on_disk.trials[0].state is TrialState.RUNNING
    assert on_disk.read_recipe(on_disk.trials[0]).model_dump_json() == trial.task.recipe
    assert Path(trial.task.folder) == running.ledger.trial_folder(0)
    assert running.observer.records == [running.ledger.trials[0]]


def test_all_trials_of_a_study_keep_how_batches_are_split_in_one_file(running: OpenSession) -> None:
    files = {trial.task.parts_file for trial in (running.session.next(), running.session.next()) if trial}
    assert files == {str(running.ledger.folder / "batch-parts.json")}


def test_an_epoch_is_recorded_with_its_step_seconds_node_and_device(running: OpenSession) -> None:
    running.session.next()
    seconds = {"train/seconds": 8.0, "dev/seconds": 1.5}
    running.session.record_epoch(0, report(2, step=80, **seconds, last_epoch=1.0))
    (epoch,) = running.ledger.trials[0].epochs
    assert (epoch.epoch, epoch.step, epoch.node, epoch.device) == (2, 80, "a", "cpu")
    assert (epoch.seconds.training, epoch.seconds.validation, epoch.seconds.waiting) == (8.0, 1.5, 0.5)
    assert epoch.metrics == {"dev/wer": 48.0, **seconds}


def test_a_comparison_after_which_a_trial_goes_on_is_recorded_and_changes_no_trial(running: OpenSession) -> None:
    running.session.next()
    running.session.record_epoch(0, report(2))
    before = running.ledger.trials[0]
    running.session.go_on(0, 2, "0 of 9 trials have a lower dev/wer, at most 3 may")
    *_, last = Ledger.open(running.ledger.folder).log.read()
    assert (last.kind, last.number, last.epoch) == ("trial_continued", 0, 2)
    assert last.reason == "0 of 9 trials have a lower dev/wer, at most 3 may"
    assert running.ledger.trials[0] == before


def test_a_complete_trial_has_its_final_metrics(running: OpenSession) -> None:
    running.session.next()
    running.session.record_epoch(0, report(2, **{"train/loss": 3.0}))
    final = {"dev/wer": 45.0, "test/t/wer": 9.0, "out_of_domain/wer": 12.0}
    running.session.complete(0, {"epoch": 2.0, "step": 80.0, "finished": 1.0, **final})
    record = running.ledger.trials[0]
    assert (record.state, record.final_metrics) == (TrialState.COMPLETE, final)
    assert record.metrics == {"train/loss": 3.0, **final}, "the chosen weights' figures stand above the last epoch's"
    assert record.curve("dev/wer") == {2: 48.0}
    assert running.observer.records[-1] == record


def test_a_retried_trial_has_its_lost_seconds_and_the_setting_that_allows_the_retry(running: OpenSession) -> None:
    running.session.next()
    running.now += 5.0
    running.session.record_epoch(0, report(1))
    running.now += 7.0
    running.session.fail(0, Failure(FailureKind.LOST, "worker 1 of 2 was lost"))
    record = running.ledger.trials[0]
    assert (record.state, record.retries, record.lost_seconds) == (TrialState.INTERRUPTED, 1, 7.0)
    assert record.reason == "worker 1 of 2 was lost; retry 1 (failures.retries 1)"
    assert running.rule.removed == []


def test_a_failed_trial_is_removed_from_the_rule(running: OpenSession) -> None:
    running.session.next()
    running.session.fail(0, Failure(FailureKind.ERROR, "KeyError: 3"))
    assert running.ledger.trials[0].state is TrialState.FAILED
    assert running.rule.removed == [0]
    assert not running.session.is_stopping()


def test_a_repeated_error_stops_the_study_with_count_and_setting(running: OpenSession) -> None:
    for number in range(2):
        running.session.next()
        running.session.fail(number, Failure(FailureKind.ERROR, "KeyError: 3"))
    assert running.session.stopped == "2 trials in a row failed with KeyError: 3 (failures.same_error_stops 2)"


def test_a_task_says_which_folder_of_which_study_and_session_the_workers_have_to_see(running: OpenSession) -> None:
    trial = running.session.next()
    assert trial is not None
    folder = running.ledger.folder
    assert (trial.task.study_folder, trial.task.study_id, trial.task.session) == (str(folder), "abc", "000001.jsonl")
    running.ledger.start_session()
    trial = running.session.next()
    assert trial is not None
    assert trial.task.session == "000002.jsonl"


def test_a_trial_that_failed_keeps_its_checkpoints_since_it_may_be_reopened(running: OpenSession) -> None:
    for number, end in enumerate((lambda: running.session.prune(0, "behind"), None)):
        running.session.next()
        checkpoints = running.ledger.trial_folder(number) / "checkpoints"
        checkpoints.mkdir()
        (end or (lambda: running.session.fail(1, Failure(FailureKind.ERROR, "KeyError: 3"))))()
        assert checkpoints.exists() == (number == 1)


def test_a_full_disk_is_an_error_and_the_trial_is_interrupted(running: OpenSession) -> None:
    running.session.next()
    with pytest.raises(OSError, match="no room") as raised:
        running.session.fail(0, Failure(FailureKind.DISK_FULL, "no room"))
    assert raised.value.errno == errno.ENOSPC
    assert running.ledger.trials[0].state is TrialState.INTERRUPTED


def test_only_the_running_trials_are_interrupted_when_the_study_stops(running: OpenSession) -> None:
    for _ in range(3):
        running.session.next()
    running.session.pause(0, 1, "it waits")
    running.session.prune(1, "behind")
    running.session.interrupt()
    states = [record.state for record in running.ledger.trials.values()]
    assert states == [TrialState.WAITING, TrialState.PRUNED, TrialState.INTERRUPTED]
    assert running.ledger.trials[2].reason == "the study was stopped"


def test_trials_that_are_never_promoted_are_pruned_at_the_end(running: OpenSession) -> None:
    while (trial := running.session.next()) is not None:
        if trial.number == 0:
            running.session.pause(0, 1, "it waits")
        else:
            running.session.complete(trial.number, {})
    running.session.end_never_promoted()
    assert (running.ledger.trials[0].state, running.ledger.trials[0].reason) == (TrialState.PRUNED, NEVER_PROMOTED)


def test_an_infeasible_point_is_recorded_and_the_next_trial_is_returned(
    running: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = iter([InfeasiblePoint(0, {"ctc_weight": 0.3}, "it makes no recipe", {"ctc_weight": 0.3})])
    real_next = running.agenda.next
    monkeypatch.setattr(running.agenda, "next", lambda: next(points, None) or real_next())
    trial = running.session.next()
    assert trial is not None
    assert trial.number == 1
    record = running.ledger.trials[0]
    assert (record.state, record.reason, record.values) == (
        TrialState.INFEASIBLE,
        "it makes no recipe",
        {"ctc_weight": 0.3},
    )
    assert list_kinds(running.ledger) == ["session_started", "trial_ended", "trial_started"]


def test_a_study_that_was_taken_over_proposes_nothing(running: OpenSession) -> None:
    def refuse() -> None:
        raise UserError("the study was taken over")

    running.ledger.check_ownership = refuse
    with pytest.raises(UserError, match="taken over"):
        running.session.next()
    assert dict(running.ledger.trials) == {}
