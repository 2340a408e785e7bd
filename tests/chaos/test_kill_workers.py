"""kill -9 of what trains: a worker, and the trial's driver."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_training
from chaos.driven import driven, events, until, went_on
from chaos.records import assert_records_agree
from rich.console import Console

from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work, run_study

STUDY = Path("studies/probe")
DIES_ONCE = {"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.DIES_ONCE}}


def _whole(trial: TrialRecord, epochs: int) -> None:
    """It came to its end, each epoch reported once."""
    assert trial.state is TrialState.COMPLETE, trial.reason
    assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, epochs + 1))


def _reported(number: int) -> list[int]:
    """Every epoch that was written down, doubles and all."""
    return [event["epoch"] for event in events(STUDY, "trial_epoch") if event["number"] == number]


def _only_retry(number: int) -> dict[str, Any]:
    (retry,) = [event for event in events(STUDY, "trial_retried") if event["number"] == number]
    assert (retry["count"], retry["setting"]) == (1, "failures.retries 5")
    return retry


def test_a_trial_whose_driver_is_killed_goes_on_from_its_checkpoint_and_so_does_the_study(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(recipe=DIES_ONCE, trials=1, workers={"count": 1, "cpus": 1}, early_stopping={"rule": "none"})
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    trials = Ledger.open(STUDY).trials
    assert len(trials) == 2
    for number, trial in trials.items():
        _whole(trial, 4)
        assert went_on(_reported(number)), "it began again instead of going on"
        assert _only_retry(number)["reason"].startswith("the trial's driver was lost (ActorDiedError")
    assert "goes on for the 1. time (failures.retries 5)" in console.file.getvalue()  # type: ignore[attr-defined]
    assert_records_agree(STUDY)


@pytest.mark.chaos
@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_that_loses_one_of_two_workers_goes_on_from_its_checkpoint(
    rank: int, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_DIES", str(rank))
    study_in(recipe=DIES_ONCE, trials=1, workers={"count": 2, "cpus": 1}, early_stopping={"rule": "none"})
    with driven() as run:
        assert run.ends() == 0, run.said
    trials = Ledger.open(STUDY).trials
    assert len(trials) == 2
    for number, trial in trials.items():
        _whole(trial, 4)
        assert went_on(_reported(number)), "it began again instead of going on"
        assert trial.metrics["ranks"] == 2
        assert _only_retry(number)["reason"].startswith(f"worker {rank} of 2 was lost")
    assert_records_agree(STUDY)


@pytest.mark.chaos
def test_the_workers_of_a_killed_driver_give_their_place_back_and_the_next_trials_run(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": 6, "training.seed": stub_training.SUCCEEDS}}
    half = len(os.sched_getaffinity(0)) / 2  # there is no place for another group beside the first
    study_in(recipe=recipe, trials=1, workers={"count": 2, "cpus": half}, early_stopping={"rule": "none"})
    with driven(seconds=1.0) as run:
        run.waits_for("epoch 2/6")
        drivers = run.started("ray::ResourceTrainable")  # Tune's name for what has resources of its own
        assert len(drivers) == 1
        drivers[0].kill()
        until(lambda: events(STUDY, "trial_retried"), run, "the killed driver was not noticed")
        assert run.ends() == 0, run.said
    trials = Ledger.open(STUDY).trials
    assert len(trials) == 2
    for trial in trials.values():
        _whole(trial, 6)
    assert went_on(_reported(0)), "it began again instead of going on"
    assert _only_retry(0)["reason"].startswith("the trial's driver was lost")
    assert events(STUDY, "trial_retried") == [_only_retry(0)]
    assert_records_agree(STUDY)
