"""Commands to a study that another process runs: each takes effect there, and is answered and recorded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
from chaos.epoch_order import assert_trained_once, read_events, reported_epochs
from chaos.records import assert_records_agree
from chaos.study_process import PATIENCE, StudyProcess, start_study, wait_until
from typer.testing import CliRunner

from model.strict import write_atomically
from study.cli.main import app
from study.ledger.commands import Command, list_commands, write_command
from study.ledger.event_log import EventLog
from study.ledger.events import ControlGiven, TrialPaused, TrialStarted, TrialState
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.runner import Work

LetTrain = Callable[[int], None]
WriteStudy = Callable[..., Path]

STUDY = Path("studies/probe")
COMPLETE, PRUNED, INTERRUPTED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.INTERRUPTED


@pytest.fixture
def let_train(stub: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let all trials train until this epoch, at first the first one: so nothing depends on how fast anything is."""
    gate = tmp_path / "gate"
    write_atomically(gate, "1")
    monkeypatch.setenv("STUB_GATE", str(gate))
    monkeypatch.setattr("study.execution.steering.WAIT_SECONDS", PATIENCE)
    return lambda epoch: write_atomically(gate, str(epoch))


def order(*words: object) -> str:
    """What the command line prints for a command to the study."""
    command, *rest = map(str, words)
    done = CliRunner().invoke(app, [command, "study.yaml", *rest], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def read_trial(number: int) -> TrialRecord | None:
    return Ledger.open(STUDY).trials.get(number)


def wait_for_epoch(run: StudyProcess, number: int, epoch: int) -> None:
    wait_until(lambda: epoch in reported_epochs(STUDY, number), run, f"trial {number} did not reach epoch {epoch}")


def wait_for_state(run: StudyProcess, number: int, state: TrialState) -> TrialRecord:
    def find() -> TrialRecord | None:
        record = read_trial(number)
        return record if record is not None and record.state is state else None

    record: TrialRecord = wait_until(find, run, f"trial {number} did not become {state}")
    return record


def assert_followed_once(*commands: str) -> None:
    """Each command is recorded once, in this order, by a person, and none is left; MLflow has what the ledger has."""
    given = read_events(STUDY, ControlGiven)
    assert [event.command for event in given] == list(commands)
    assert all("@" in event.who and event.id for event in given)
    assert len({event.id for event in given}) == len(given)
    assert list_commands(STUDY) == []
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


@pytest.mark.chaos
def test_a_trial_is_paused_resumed_noted_and_another_one_stopped_while_the_study_runs(
    let_train: LetTrain, plain_study: WriteStudy
) -> None:
    plain_study({"training.epochs": 5})
    with start_study(seconds=0.0) as run:
        wait_for_epoch(run, 0, 1)
        assert order("trial", 0, "pause") == "trial 0000 pauses at its next report, after epoch 2, until it is resumed"
        let_train(2)
        wait_for_state(run, 0, INTERRUPTED)
        wait_for_epoch(run, 1, 2)
        assert order("trial", 0, "resume") == "trial 0000 continues after epoch 2"
        assert order("trial", 0, "note", "loss rises") == "noted of trial 0000"
        assert order("trial", 1, "stop") == "trial 0001 ends at its next report, after epoch 3"
        let_train(5)
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert (trials[0].state, trials[1].state) == (COMPLETE, PRUNED)
    assert (trials[1].reason or "").startswith("stopped by ")
    assert (trials[1].reason or "").endswith("after epoch 3")
    assert [note.split(" (")[0] for note in trials[0].notes] == ["loss rises"]
    assert reported_epochs(STUDY, 0) == [1, 2, 3, 4, 5], "it continued from its checkpoint"
    assert_followed_once("pause", "resume", "note", "stop")


@pytest.mark.chaos
def test_a_study_is_paused_and_resumed_then_drained_and_continued(let_train: LetTrain, plain_study: WriteStudy) -> None:
    plain_study({"training.epochs": 4}, trials=2)
    with start_study(seconds=0.0) as run:
        wait_for_epoch(run, 0, 1)
        assert "is paused, nothing starts until it is resumed; trials that run" in order("pause")
        let_train(2)
        wait_for_state(run, 0, INTERRUPTED)
        assert list(Ledger.open(STUDY).trials) == [0]
        assert order("resume") == "study 'probe' is resumed"
        wait_for_state(run, 0, TrialState.RUNNING)
        assert order("drain") == "study 'probe' stops once the trials that run have ended: 0000"
        let_train(4)
        assert run.wait_for_end() == 130, run.output
        assert "the study is drained by " in run.output
        assert "Continue with: decred-study run study.yaml" in run.output
        assert "Traceback" not in run.output
    assert [record.state for record in Ledger.open(STUDY).trials.values()] == [COMPLETE]
    with start_study(seconds=0.0) as run:
        assert run.wait_for_end() == 0, run.output
    assert [record.state for record in Ledger.open(STUDY).trials.values()] == [COMPLETE, COMPLETE]
    assert_followed_once("pause", "resume", "drain")


@pytest.mark.chaos
def test_recipes_are_enqueued_the_budget_is_raised_and_a_failed_trial_is_retried_while_the_study_runs(
    let_train: LetTrain, plain_study: WriteStudy
) -> None:
    plain_study({"training.epochs": 4, "training.seed": stub_training.RAISES}, trials=1)
    with start_study(seconds=0.0) as run:
        wait_for_epoch(run, 0, 1)
        asked = order("enqueue", "training.epochs=3", "training.seed=0", "ctc_weight=0.9")
        assert asked == "enqueued: loss.ctc_weight 0.9, training.epochs 3, training.seed 0; it is tried next"
        let_train(2)  # trial 0 fails in its second epoch
        wait_for_epoch(run, 1, 2)
        assert order("trial", 0, "retry") == "trial 0000 continues after epoch 1"
        assert order("set", "trials=2") == "trials=2 from now on, instead of trials=1"
        assert order("set", "concurrent_trials=none").startswith("concurrent_trials=none from now on, instead of ")
        let_train(4)
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert [record.state for record in trials.values()] == [TrialState.FAILED, COMPLETE, TrialState.FAILED]
    assert (trials[1].planned_epochs, trials[1].point, trials[1].values["ctc_weight"]) == (3, {}, 0.9)
    assert "@" in (trials[1].enqueued_by or "")
    assert [event.number for event in read_events(STUDY, TrialStarted)].count(0) == 2, "it was tried again"
    assert_followed_once("enqueue", "retry", "set", "set")


@pytest.mark.chaos
def test_a_trial_that_waits_at_a_rung_is_promoted_while_the_study_runs(
    let_train: LetTrain, plain_study: WriteStudy
) -> None:
    rule = {"rule": "asha-promote", "grace_epochs": 1, "reduction": 4}
    plain_study({"training.epochs": 8}, trials=4, early_stopping=rule)
    with start_study(seconds=0.0) as run:
        wait_until(lambda: has_continued(0), run, "the best of the rung was not continued")
        said = order("trial", 2, "promote")
        assert said == "trial 0002 continues after epoch 1, whatever the stopping rule says"
        let_train(8)
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert [record.state for record in trials.values()] == [COMPLETE, PRUNED, COMPLETE, PRUNED]
    assert reported_epochs(STUDY, 2) == list(range(1, 9))
    pauses = [(event.number, event.epoch) for event in read_events(STUDY, TrialPaused)]
    assert (0, 4) in pauses
    assert (2, 4) not in pauses, "no rung stops it any more"
    assert_followed_once("promote")


def has_continued(number: int) -> bool:
    """Whether a trial was paused at its rung and runs again, so that all others wait."""
    return [event.number for event in read_events(STUDY, TrialStarted)].count(number) == 2


@pytest.mark.chaos
def test_a_command_that_a_killed_driver_had_recorded_and_not_answered_is_followed_once_by_the_next(
    let_train: LetTrain, plain_study: WriteStudy
) -> None:
    plain_study({"training.epochs": 4})
    with start_study(seconds=0.0) as run:
        wait_for_epoch(run, 0, 1)
        done = CliRunner().invoke(app, ["trial", "study.yaml", "0", "stop", "--no-wait"], catch_exceptions=False)
        id_ = done.output.split()[5].rstrip(":")
        wait_until(lambda: read_events(STUDY, ControlGiven), run, "it was not recorded")
        wait_until(lambda: not list_commands(STUDY), run, "it was not answered")
        run.kill()
    (STUDY / "control" / "answers" / f"{id_}.json").unlink()
    write_command(STUDY, Command(id_, 1.0, "ada@laptop", "stop", 0))  # as if the kill had come before the answer
    let_train(4)
    with start_study(seconds=0.0) as run:
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert (trials[0].state, trials[1].state) == (PRUNED, COMPLETE)
    assert_followed_once("stop")
