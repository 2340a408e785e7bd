"""Drivers that do not respond are killed, and what becomes of their trials is reported with the reason."""

from __future__ import annotations

import pickle
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from study.early_stopping.rules import Never
from study.execution.driver_watch import DriverWatch
from study.execution.tune_callbacks import EndCallback, RuleScheduler
from study.execution.tune_guard import FirstError
from study.workers.driver import TRIAL, StalledError
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Task, TrialConfig

LIMIT = 0.2  # seconds


class FailureListener:
    """Keeps the failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[int, Failure]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: None

    def fail(self, number: int, failure: Failure) -> None:
        self.failures.append((number, failure))

    def is_stopping(self) -> bool:
        return False


def make_trial(error_file: Path, status: str = Trial.RUNNING) -> Any:
    return SimpleNamespace(
        trial_id="tune-3",
        status=status,
        config={TRIAL: TrialConfig(3, Task("{}", "hash", "/folder"), is_baseline=False)},
        temporary_state=SimpleNamespace(ray_actor="actor"),
        pickled_error_file=str(error_file),
    )


def look_until(watch: DriverWatch, trial: Any, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        watch.look([trial])
        time.sleep(0.01)


def make_callback(listener: FailureListener, watch: DriverWatch) -> EndCallback:
    errors = FirstError(listener)
    return EndCallback(listener, RuleScheduler(listener, Never(), "dev/wer", errors), errors, watch)  # type: ignore[arg-type]


def test_a_driver_that_is_silent_for_too_long_is_killed_once_and_its_trial_is_lost(
    killed: list[str], tmp_path: Path
) -> None:
    watch, listener = DriverWatch(LIMIT, least=LIMIT), FailureListener()
    trial, callback = make_trial(tmp_path / "none"), make_callback(listener, watch)
    callback.on_trial_start(0, [trial], trial)
    look_until(watch, trial, 3 * LIMIT)
    assert killed == ["actor"]
    callback.on_trial_error(0, [trial], trial)
    ((number, failure),) = listener.failures
    assert (number, failure.kind) == (3, FailureKind.LOST)
    assert re.fullmatch(
        r"the trial's driver did not respond for \d+ s \(failures\.stall_seconds\), and was killed", failure.reason
    )
    callback.on_trial_error(0, [trial], trial)
    assert listener.failures[1][1].reason == "the trial's driver was lost (Ray gave no reason)"


@pytest.mark.parametrize("status", [Trial.PENDING, Trial.PAUSED, Trial.TERMINATED])
def test_a_trial_that_does_not_run_and_one_without_a_limit_are_left_alone(
    status: str, killed: list[str], tmp_path: Path
) -> None:
    for trial, watch in (
        (make_trial(tmp_path, status), DriverWatch(LIMIT, least=LIMIT)),
        (make_trial(tmp_path), DriverWatch(None)),
        (make_trial(tmp_path), DriverWatch(LIMIT)),  # a driver has a minute at least
    ):
        watch.note(trial)
        look_until(watch, trial, 2 * LIMIT)
    assert killed == []


def test_the_failure_of_a_worker_that_only_ends_with_its_driver_arrives_as_it_was(tmp_path: Path) -> None:
    failure = Failure(FailureKind.LOST, "no progress for 1201 s", "host", "node-id")
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(StalledError(failure)))
    listener, trial = FailureListener(), make_trial(file)
    make_callback(listener, DriverWatch(None)).on_trial_error(0, [trial], trial)
    assert listener.failures == [(3, failure)]


@pytest.mark.parametrize("status", [Trial.PAUSED, Trial.TERMINATED, Trial.ERROR, None])
def test_nothing_is_kept_of_a_trial_that_has_left_its_driver(status: str | None, tmp_path: Path) -> None:
    watch, trial, other = DriverWatch(60.0), make_trial(tmp_path), make_trial(tmp_path)
    other.trial_id = "tune-4"
    watch.note(trial)
    watch.note(other)
    watch.look([trial, other])
    assert watch._watches.keys() == {"tune-3", "tune-4"}
    trial.status = status
    watch.look([other] if status is None else [trial, other])  # Tune forgets trials that have ended
    assert watch._watches.keys() == {"tune-4"}
