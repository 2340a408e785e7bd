"""Commands to a study that another process runs: each takes effect there, and is answered and recorded once."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
import torch
from chaos.epoch_order import assert_trained_once, read_events, reported_epochs
from chaos.records import assert_records_agree
from chaos.sick_training import PLANTED, list_starts
from chaos.study_process import PATIENCE, CommandProcess, start_study, wait_until
from conftest import MINIATURE
from ray.cluster_utils import Cluster
from training_runs import read_chosen_weights
from typer.testing import CliRunner

from model.recipe.files import with_values
from model.strict import to_yaml, write_atomically
from model.weights.initial import fingerprint_weights
from study.cli.main import app
from study.ledger.commands import Command, list_commands, write_command
from study.ledger.event_log import EventLog
from study.ledger.events import ControlGiven, NodeExcluded, TrialPaused, TrialStarted, TrialState
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.runner import Work

LetTrain = Callable[[int], None]
WriteStudy = Callable[..., Path]

STUDY = Path("studies/probe")
RUN_BESIDE_SICK_NODE = """
import sys
from pathlib import Path
from study.runner import Work, run_study
work = Work("chaos.sick_training:train", "stub_training:prepare")
sys.exit(run_study(Path("study.yaml"), address={address!r}, work=work))
"""
ENDLESS = 1000  # trials that no test waits for
COMPLETE, PRUNED, INTERRUPTED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.INTERRUPTED


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.execution.steering.WAIT_SECONDS", PATIENCE)


@pytest.fixture
def let_train(stub: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let all trials train until this epoch, at first the first one: so nothing depends on how fast anything is."""
    gate = tmp_path / "gate"
    write_atomically(gate, "1")
    monkeypatch.setenv("STUB_GATE", str(gate))
    return lambda epoch: write_atomically(gate, str(epoch))


def order(*words: object) -> str:
    """What the command line prints for a command to the study."""
    command, *rest = map(str, words)
    done = CliRunner().invoke(app, [command, "study.yaml", *rest], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def read_trial(number: int) -> TrialRecord | None:
    return Ledger.open(STUDY).trials.get(number)


def read_epoch(number: int) -> int:
    return Ledger.open(STUDY).trials[number].epoch


def wait_for_epoch(run: CommandProcess, number: int, epoch: int) -> None:
    wait_until(lambda: epoch in reported_epochs(STUDY, number), run, f"trial {number} did not reach epoch {epoch}")


def wait_for_state(run: CommandProcess, number: int, state: TrialState) -> TrialRecord:
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
        assert "\ntrial 0000: loss rises (" in order("status")
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
def test_a_recipe_file_and_a_training_from_a_trials_weights_are_enqueued_while_the_study_runs(
    plain_study: WriteStudy,
) -> None:
    """Real trainings, because the stand-in has no weights. With so small a rate they stay as they were."""
    plain_study(MINIATURE, trials=ENDLESS)
    folder = Path(STUDY, "trials", "0000").resolve()
    with contextlib.closing(CommandProcess([sys.executable, "-m", "study", "run", "study.yaml"])) as run:
        wait_for_epoch(run, 0, 1)
        wait_for_state(run, 0, COMPLETE)
        mine = with_values(Ledger.open(STUDY).base_recipe, {"training.epochs": 1, "loss.ctc_weight": 0.9})
        Path("mine.yaml").write_text(to_yaml(mine))
        asked = order("enqueue", "mine.yaml")
        assert asked == "enqueued: loss.ctc_weight 0.9, training.epochs 1; it is tried next"
        asked = order("enqueue", "--from", 0, "training.epochs=+3", "optimiser.learning_rate=1e-9")
        assert asked.endswith(f", training.epochs 3, init_from {folder}; it is tried next")
        numbers = wait_until(find_two_enqueued, run, "both were not started")
        of_file, of_trial = (wait_for_state(run, number, COMPLETE) for number in numbers)
        assert order("set", "trials=1").startswith("trials=1 from now on")
        assert run.wait_for_end() == 0, run.output
    ledger = Ledger.open(STUDY)
    assert (ledger.read_recipe(of_file), reported_epochs(STUDY, of_file.number)) == (mine, [1])
    first = ledger.read_recipe(ledger.trials[0])
    start = {"init_from": str(folder), "init_fingerprint": fingerprint_weights(folder)}
    changed = start | {"training.epochs": 3, "optimiser.learning_rate": 1e-9}
    assert ledger.read_recipe(of_trial) == with_values(first, changed)
    assert reported_epochs(STUDY, of_trial.number) == [1, 2, 3]
    kept, weights = read_chosen_weights(ledger.trial_folder(of_trial.number)), read_chosen_weights(folder)
    torch.testing.assert_close(kept, weights, rtol=0.0, atol=1e-6)
    assert_followed_once("enqueue", "enqueue", "set")


def find_two_enqueued() -> list[int]:
    """The numbers of the trials of enqueued recipes once there are two, in the order of their starts."""
    trials = Ledger.open(STUDY).trials
    numbers = [number for number, record in trials.items() if record.enqueued_by is not None]
    return numbers if len(numbers) == 2 else []


@pytest.mark.chaos
def test_a_node_that_was_excluded_and_is_corrected_gets_trials_again_while_the_study_runs(
    cluster: Cluster, plain_study: WriteStudy
) -> None:
    planted, sick = Path(os.environ[PLANTED]), min(node.node_id for node in cluster.worker_nodes)
    write_atomically(planted, json.dumps({sick: "raises"}))
    plain_study(trials=ENDLESS, workers={"count": 1, "cpus": 1})
    command = [sys.executable, "-u", "-c", RUN_BESIDE_SICK_NODE.format(address=cluster.address)]
    with contextlib.closing(CommandProcess(command)) as run:
        (excluded,) = wait_until(lambda: read_events(STUDY, NodeExcluded), run, "the sick node was not excluded")
        write_atomically(planted, "{}")
        # Else these could have it excluded again: they count against it as soon as they get further elsewhere.
        wait_until(lambda: all(map(read_epoch, list_started_on(sick))), run, "what failed there got no further")
        assert order("node", excluded.node, "use") == f"node {excluded.node} is used again"
        last = max(Ledger.open(STUDY).trials)
        wait_until(lambda: max(list_started_on(sick)) > last, run, "no trial was placed on it again")
        order("drain")
        assert run.wait_for_end() == 130, run.output
    trials = Ledger.open(STUDY).trials
    assert trials.excluded == ()
    assert {record.state for record in trials.values()} <= {COMPLETE, INTERRUPTED}, "those that it has failed go on"
    assert_followed_once("use", "drain")


def list_started_on(node_id: str) -> list[int]:
    """The trials that were started on a node, also those that continued on another one."""
    return [int(folder.name) for folder in sorted((STUDY / "trials").iterdir()) if node_id in list_starts(folder)]


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
