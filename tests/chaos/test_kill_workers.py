"""kill -9 of what trains: a worker, and the trial's driver."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
from chaos.epoch_order import assert_trained_once, read_events, reported_epochs
from chaos.records import assert_records_agree
from chaos.study_process import start_study, wait_until
from rich.console import Console

from study.ledger.event_log import EventLog
from study.ledger.events import TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work, run_study

STUDY = Path("studies/probe")
DIES_ONCE = {"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.DIES_ONCE}}


def assert_complete(trial: TrialRecord, epochs: int) -> None:
    assert trial.state is TrialState.COMPLETE, trial.reason
    assert [report.epoch for report in trial.epochs] == list(range(1, epochs + 1))


def only_retry(number: int) -> TrialRetried:
    (retry,) = [event for event in read_events(STUDY, TrialRetried) if event.number == number]
    assert (retry.count, retry.setting) == (1, "failures.retries 5")
    return retry


@pytest.mark.chaos
def test_a_trial_whose_driver_is_killed_continues_from_its_checkpoint_and_so_does_the_study(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(recipe=DIES_ONCE, trials=1, workers={"count": 1, "cpus": 1}, early_stopping={"rule": "none"})
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    trials = Ledger.open(STUDY).trials
    assert len(trials) == 2
    for number, trial in trials.items():
        assert_complete(trial, 4)
        # It died when its first epoch had its answer, so not even that one is reported again.
        assert reported_epochs(STUDY, number) == [1, 2, 3, 4]
        assert (only_retry(number).reason or "").startswith("the trial's driver was lost (ActorDiedError")
    assert "; retry 1 (failures.retries 5)" in console.file.getvalue()  # type: ignore[attr-defined]
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


@pytest.mark.chaos
@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_that_loses_one_of_two_workers_continues_from_its_checkpoint(
    rank: int, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_DIES", str(rank))
    study_in(recipe=DIES_ONCE, trials=1, workers={"count": 2, "cpus": 1}, early_stopping={"rule": "none"})
    with start_study() as run:
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert len(trials) == 2
    for number, trial in trials.items():
        assert_complete(trial, 4)
        assert trial.metrics["ranks"] == 2
        assert (only_retry(number).reason or "").startswith(f"worker {rank} of 2 was lost")
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


@pytest.mark.chaos
def test_the_workers_of_a_killed_driver_release_their_resources_and_the_next_trials_run(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": 6, "training.seed": stub_training.SUCCEEDS}}
    half = len(os.sched_getaffinity(0)) / 2  # there is no room for another group beside the first
    study_in(recipe=recipe, trials=1, workers={"count": 2, "cpus": half}, early_stopping={"rule": "none"})
    with start_study(seconds=1.0) as run:
        run.wait_for_output("epoch 2/6")
        drivers = run.list_processes("ray::ResourceTrainable")  # Tune's name for what has resources of its own
        assert len(drivers) == 1
        drivers[0].kill()
        wait_until(lambda: read_events(STUDY, TrialRetried), run, "the killed driver was not noticed")
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert len(trials) == 2
    for trial in trials.values():
        assert_complete(trial, 6)
    assert (only_retry(0).reason or "").startswith("the trial's driver was lost")
    assert read_events(STUDY, TrialRetried) == [only_retry(0)]
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)
