"""Signals at an awkward moment, and two drivers of one study."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
from chaos.driven import driven, events, stop_signal, until, went_on
from chaos.records import assert_records_agree
from rich.console import Console

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

STUDY = Path("studies/probe")
ENDS_WITHIN = 40.0  # seconds; about 5 on a quiet machine


@pytest.mark.chaos
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_while_a_retry_waits_is_heard_and_the_retry_goes_on_later(
    sent: signal.Signals,
    ray_here: None,
    stub: Work,
    study_in: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUB_DEATHS", "3")  # the third retry waits for four seconds
    dies = {"training.epochs": 4, "training.seed": stub_training.DIES_ONCE}
    path = study_in(recipe={"base": "tiny", "set": dies}, trials=0)
    with driven() as run:
        until(lambda: len(events(STUDY, "trial_retried")) == 3, run, "it was not lost three times")
        asked = time.monotonic()
        stop_signal(run, sent)
        assert run.ends() == 130, run.said
        assert time.monotonic() - asked < ENDS_WITHIN
        assert run.started() == [], "processes were left behind"
        assert "Go on with: decred-study run study.yaml" in run.said
        assert "Traceback" not in run.said
    last = [event["kind"] for event in events(STUDY)][-2:]
    assert last == ["trial_retried", "study_interrupted"], "the retry did not wait any more"
    stopped = Ledger.open(STUDY).trials[0]
    assert (stopped.state, stopped.retries) == (TrialState.INTERRUPTED, 3)
    assert_records_agree(STUDY)

    assert run_study(path, console=Console(file=io.StringIO(), width=200), work=stub) == 0
    trial = Ledger.open(STUDY).trials[0]
    assert (trial.state, trial.retries) == (TrialState.COMPLETE, 3)
    assert [epoch["epoch"] for epoch in trial.epochs] == [1, 2, 3, 4]
    assert went_on([event["epoch"] for event in events(STUDY, "trial_epoch")]), "it began again instead of going on"
    assert_records_agree(STUDY)


@pytest.mark.chaos
def test_a_second_driver_is_refused_in_one_line_and_goes_on_at_once_when_the_first_is_killed(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    study_in(trials=0, recipe={"base": "tiny", "set": {"training.epochs": 40, "training.seed": 0}})
    with driven(seconds=0.5) as first:
        first.waits_for("trial 0000 epoch 1/40")
        with driven() as second:
            assert second.ends() == 2, second.said
            (line,) = second.said.splitlines()
            assert f"is being run by process {first.process.pid} on" in line
        assert first.process.poll() is None, first.said
        first.kill()
        told = len(events(STUDY, "trial_epoch"))
        with driven(seconds=0.01) as third:
            assert third.ends() == 0, third.said
            assert "waiting" not in third.said, "it waited for a holder that is dead"
    assert 0 < told < 40, "the first was to be killed in mid-trial"
    trial = Ledger.open(STUDY).trials[0]
    assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, 41))
    assert went_on([event["epoch"] for event in events(STUDY, "trial_epoch")]), "it began again instead of going on"
    assert_records_agree(STUDY)
