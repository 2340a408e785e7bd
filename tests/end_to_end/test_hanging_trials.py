"""Trials that hang are ended, and continue from their checkpoint in other processes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hanging_start import HANGS_EACH_TIME, DriverThatHangs
from hanging_training import HUNG
from rich.console import Console

from model.errors import UserError
from study.execution.driver_watch import DriverWatch
from study.ledger.events import AnyEvent, TrialEpoch, TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

STUDY = Path("studies/probe")
ONE_TRIAL: dict[str, Any] = {
    "trials": 0,
    "recipe": {"base": "tiny", "set": {"training.epochs": 3, "training.seed": 0}},
    "early_stopping": {"rule": "none"},
    "tracking": None,
}


# Several times what a busy machine needs for a step, and more retries than it needs where that was not enough.
PATIENT: dict[str, Any] = {"stall_seconds": 5.0, "stall_epochs": None, "retries": 20}


def run_one(path: Path, work: Work) -> tuple[list[str], list[dict[str, str]]]:
    """Run a study of one trial, which hangs once; the reasons of its retries, and the stacks' files as each of them
    found them.

    On a busy machine it may be slow enough to be taken for hanging, and then is tried once more, which writes the files
    again.
    """
    output, append = io.StringIO(), Ledger.append
    stacks: list[dict[str, str]] = []

    def append_and_read(ledger: Ledger, event: AnyEvent) -> None:
        if isinstance(event, TrialRetried):  # before the next try begins
            files = ledger.trial_folder(event.number).glob("stacks-*")
            stacks.append({file.name: file.read_text() for file in files})
        append(ledger, event)

    with mock.patch.object(Ledger, "append", append_and_read):
        assert run_study(path, console=Console(file=output, width=200), work=work) == 0, output.getvalue()
    ledger = Ledger.open(STUDY)
    assert [(record.state, record.epoch) for record in ledger.trials.values()] == [(TrialState.COMPLETE, 3)]
    assert (ledger.trial_folder(0) / HUNG).exists()
    reasons = [event.reason or "" for event in ledger.log.read() if isinstance(event, TrialRetried)]
    assert len(stacks) == len(reasons)
    return reasons, stacks


def test_a_trial_whose_reader_hangs_continues_in_another_process_and_its_stacks_show_the_read(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**ONE_TRIAL, failures=PATIENT)
    reasons, stacks = run_one(path, Work("hanging_training:train_with_hung_reader"))
    hung = [reason for reason in reasons if "pathlib.py" in reason and "called at model/data/reading.py" in reason]
    assert len(hung) == 1, reasons
    assert re.match(
        r"no progress for \d+ s \(failures.stall_seconds 5\): its worker on \S+ was in \S+:\d+ in ", hung[0]
    )
    assert "in read_silent_file" in stacks[reasons.index(hung[0])]["stacks-rank0.txt"]


@pytest.mark.chaos
def test_a_trial_that_hangs_while_its_end_is_scored_is_a_lost_worker_and_its_retry_trains_no_epoch_again(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**ONE_TRIAL, failures=PATIENT | {"stall_epochs": 2.0})
    reasons, stacks = run_one(path, Work("hanging_training:train_with_hung_scoring"))
    hung = [reason for reason in reasons if "pathlib.py" in reason and "called at model/training/loop.py" in reason]
    assert len(hung) == 1, reasons
    limit = r"(failures\.stall_seconds 5|failures\.stall_epochs 2, its usual epoch takes \d+ s)"
    assert re.match(rf"no progress for \d+ s \({limit}\): its worker on ", hung[0])
    assert "in read_silent_file" in stacks[reasons.index(hung[0])]["stacks-rank0.txt"]
    events = list(Ledger.open(STUDY).log.read())
    (retried,) = [at for at, event in enumerate(events) if isinstance(event, TrialRetried) and event.reason == hung[0]]
    assert not [event for event in events[retried:] if isinstance(event, TrialEpoch)]


@pytest.mark.chaos
def test_a_rank_that_hangs_is_told_from_the_one_that_waits_for_it_and_both_are_ended(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**ONE_TRIAL, workers={"count": 2, "cpus": 0.5}, failures=PATIENT)
    reasons, stacks = run_one(path, Work("hanging_training:train_with_hung_rank", stub.prepare))
    hung = [reason for reason in reasons if "in report_then_hang" in reason]
    assert len(hung) == 1, reasons
    assert "(failures.stall_seconds 5): worker 1 of 2 on " in hung[0]
    kept = stacks[reasons.index(hung[0])]
    assert "in all_reduce" in kept["stacks-rank0.txt"]
    assert "in report_then_hang" in kept["stacks-rank1.txt"]
    assert "in all_reduce" not in kept["stacks-rank1.txt"], "these are another rank's"


@pytest.mark.chaos
def test_a_rank_whose_process_is_stopped_is_killed_and_its_trial_continues(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**ONE_TRIAL, workers={"count": 2, "cpus": 0.5}, failures=PATIENT)
    reasons, _ = run_one(path, Work("hanging_training:train_with_stopped_rank", stub.prepare))
    assert any("did not answer: its process is stopped (SIGSTOP)" in reason for reason in reasons), reasons


@pytest.mark.chaos
def test_a_driver_whose_process_is_stopped_is_killed_and_its_trial_continues(
    ray_here: None, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.execution.tune.DriverWatch", lambda seconds: DriverWatch(seconds, least=3.0))
    path = study_in(**ONE_TRIAL, failures=PATIENT)
    reasons, _ = run_one(path, Work("hanging_training:train_with_stopped_driver", stub.prepare))
    silent = r"the trial's driver did not respond for \d+ s \(failures.stall_seconds\), and was killed"
    assert any(re.match(silent, reason) for reason in reasons), reasons


@pytest.mark.chaos
def test_a_driver_that_does_not_start_is_killed_and_its_trial_is_tried_again(
    ray_here: None, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.execution.tune.TrialDriver", DriverThatHangs)
    path = study_in(**ONE_TRIAL, failures={"retries": 20}, workers={"count": 1, "cpus": 1, "start_seconds": 30.0})
    reasons, _ = run_one(path, stub)
    late = "the trial's driver had its resources, but did not start within 30 s (workers.start_seconds), and was killed"
    assert any(reason.startswith(late) for reason in reasons), reasons


@pytest.mark.chaos
def test_a_trial_whose_driver_never_starts_fails_with_the_reason_once_its_retries_are_used_up(
    ray_here: None, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.execution.tune.TrialDriver", DriverThatHangs)
    path = study_in(**ONE_TRIAL, failures={"retries": 1}, workers={"count": 1, "cpus": 1, "start_seconds": 3.0})
    (STUDY / "trials").mkdir(parents=True)
    (STUDY / "trials" / HANGS_EACH_TIME).touch()
    output = io.StringIO()
    assert run_study(path, console=Console(file=output, width=200), work=stub) == 1, output.getvalue()
    (record,) = Ledger.open(STUDY).trials.values()
    assert record.state is TrialState.FAILED
    assert "did not start within 3 s (workers.start_seconds)" in (record.reason or "")
    assert "tried 2 times, as failures.retries 1 allows" in (record.reason or "")


def test_a_preparation_that_hangs_ends_the_command_with_one_line_and_no_study_is_made(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**ONE_TRIAL, failures={"stall_seconds": 1.0})
    where = (
        r"the preparation of tokenizer and features made no progress for \d+ s \(failures.stall_seconds 1\) in pathlib"
    )
    with pytest.raises(UserError, match=where) as raised:
        run_study(path, console=Console(file=io.StringIO()), work=Work(stub.train, "hanging_training:prepare_for_ever"))
    found = re.search(r"all threads are in (\S+\.txt)\.", str(raised.value))
    assert found, str(raised.value)
    assert "in prepare_for_ever" in Path(found[1]).read_text()
    Path(found[1]).unlink()
    assert not STUDY.exists()
