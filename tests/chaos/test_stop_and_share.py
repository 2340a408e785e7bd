"""Signals while a retry waits, and two drivers of one study."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
from chaos.epoch_order import assert_trained_once, read_events, reported_epochs
from chaos.records import assert_records_agree
from chaos.study_process import send_stop_signal, start_study, wait_until
from rich.console import Console

from study.ledger.event_log import EventLog
from study.ledger.events import TrialEpoch, TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

STUDY = Path("studies/probe")
ENDS_WITHIN = 40.0  # seconds; about 5 on a quiet machine


@pytest.mark.chaos
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_while_a_retry_waits_ends_the_study_and_the_retry_continues_later(
    kind: signal.Signals,
    ray_here: None,
    stub: Work,
    study_in: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUB_DEATHS", "3")  # the third retry waits for four seconds
    dies = {"training.epochs": 4, "training.seed": stub_training.DIES_ONCE}
    path = study_in(recipe={"base": "tiny", "set": dies}, trials=0)
    with start_study() as run:
        wait_until(lambda: len(read_events(STUDY, TrialRetried)) == 3, run, "it was not lost three times")
        sent = time.monotonic()
        send_stop_signal(run, kind)
        assert run.wait_for_end() == 130, run.output
        assert time.monotonic() - sent < ENDS_WITHIN
        assert run.list_processes() == [], "processes were left behind"
        assert "Continue with: decred-study run study.yaml" in run.output
        assert "Traceback" not in run.output
    last = [event.kind for event in EventLog(STUDY).read()][-2:]
    assert last == ["trial_retried", "study_interrupted"], "the retry did not wait any more"
    stopped = Ledger.open(STUDY).trials[0]
    assert (stopped.state, stopped.retries) == (TrialState.INTERRUPTED, 3)
    assert_records_agree(STUDY)

    assert run_study(path, console=Console(file=io.StringIO(), width=200), work=stub) == 0
    trial = Ledger.open(STUDY).trials[0]
    assert (trial.state, trial.retries) == (TrialState.COMPLETE, 3)
    assert reported_epochs(STUDY, 0) == [1, 2, 3, 4]
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


@pytest.mark.chaos
def test_a_second_driver_is_refused_in_one_line_and_continues_at_once_when_the_first_is_killed(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    study_in(trials=0, recipe={"base": "tiny", "set": {"training.epochs": 40, "training.seed": 0}})
    with start_study(seconds=0.5) as first:
        first.wait_for_output("trial 0000 epoch 1/40")
        with start_study() as second:
            assert second.wait_for_end() == 2, second.output
            (line,) = second.output.splitlines()
            assert f"is being run by process {first.process.pid} on" in line
        assert first.process.poll() is None, first.output
        first.kill()
        reported = len(read_events(STUDY, TrialEpoch))
        with start_study(seconds=0.01) as third:
            assert third.wait_for_end() == 0, third.output
            assert "waiting" not in third.output, "it waited for a holder that is dead"
    assert 0 < reported < 40, "the first was to be killed in the middle of its trial"
    trial = Ledger.open(STUDY).trials[0]
    assert [report.epoch for report in trial.epochs] == list(range(1, 41))
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)
