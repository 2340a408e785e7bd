"""Drivers that do not start are killed, and what becomes of their trials is reported with the reason."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial

from study.execution.start_watch import StartWatch
from study.workers.failure import FailureKind

LIMIT = 0.2  # seconds


class Tracked:
    """What Tune knows a trial's driver by."""


def make_trial(name: str, status: str = Trial.PENDING) -> Any:
    trial = Trial.__new__(Trial)
    trial.trial_id = name
    trial.status = status
    return trial


def make_controller(trials: dict[Any, Tracked], living: set[Tracked]) -> Any:
    manager = SimpleNamespace(
        _live_actors_to_ray_actors_resources={one: (f"actor of {id(one)}", None) for one in living}
    )
    return SimpleNamespace(_trial_to_actor=trials, _actor_manager=manager)


def look_until(watch: StartWatch, controller: Any, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        watch.look(controller)
        time.sleep(0.01)


def test_a_driver_that_has_its_resources_and_does_not_start_is_killed_once(killed: list[str]) -> None:
    watch, trial, tracked = StartWatch(LIMIT), make_trial("tune-1"), Tracked()
    look_until(watch, make_controller({trial: tracked}, {tracked}), 4 * LIMIT)
    assert killed == [f"actor of {id(tracked)}"]
    failure = watch.take_failure(trial)
    assert failure is not None
    assert failure.kind is FailureKind.START
    assert failure.reason.startswith("the trial's driver had its resources, but did not start within 0.2 s (workers.")
    assert watch.take_failure(trial) is None


def test_a_driver_that_runs_waits_for_resources_or_has_no_limit_is_left_alone(killed: list[str]) -> None:
    runs, waits, started = Tracked(), Tracked(), Tracked()
    trials = {make_trial("tune-1", Trial.RUNNING): runs, make_trial("tune-2"): waits}
    watch = StartWatch(LIMIT)
    look_until(watch, make_controller(trials, {runs}), 2 * LIMIT)
    look_until(StartWatch(None), make_controller({make_trial("tune-3"): started}, {started}), 2 * LIMIT)
    watch.look(None)  # before the first trial
    assert killed == []


def test_each_start_has_the_whole_time(killed: list[str]) -> None:
    watch, trial, tracked = StartWatch(60.0), make_trial("tune-1"), Tracked()
    watch.look(make_controller({trial: tracked}, {tracked}))
    first = watch._watches["tune-1"]
    trial.status = Trial.RUNNING
    watch.look(make_controller({trial: tracked}, {tracked}))
    assert watch._watches == {}, "nothing is kept of a trial that runs"
    trial.status = Trial.PENDING
    watch.look(make_controller({trial: tracked}, {tracked}))
    assert watch._watches["tune-1"] is not first
