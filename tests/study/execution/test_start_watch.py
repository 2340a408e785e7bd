"""Drivers that do not start are killed, and what becomes of their trials is reported with the reason."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial

from model.recipe.files import named_recipe, with_values
from study.early_stopping.rules import Never
from study.execution import start_watch
from study.execution.start_watch import StartWatch
from study.execution.tune import run_trials
from study.workers.driver import CREW, TRIAL
from study.workers.failure import Failure, FailureKind
from study.workers.messages import CrewConfig, Report, Task, TrialConfig

LIMIT = 0.2  # seconds


class Tracked:
    """What Tune knows a trial's driver by."""


def make_trial(name: str, status: str = Trial.PENDING, avoided: tuple[str, ...] = (), workers: int = 1) -> Any:
    trial = Trial.__new__(Trial)
    trial.trial_id = name
    trial.status = status
    trial.config = {
        CREW: CrewConfig("stub_training:train", "train", workers),
        TRIAL: TrialConfig(0, Task("", "", ""), False, avoided=avoided),
    }
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


class Ending(SimpleNamespace):
    """Tune's controller, which ends the trials that it is asked to end."""

    def _unstage_trial_with_resources(self, trial: Trial) -> None:
        self.unstaged.append(trial)

    def _process_trial_failure(self, trial: Trial, error: Exception) -> None:
        self.ended.append(trial)
        self._trial_to_actor.pop(trial)


def test_a_trial_that_finds_no_room_beside_nodes_that_it_avoids_is_ended_once_and_no_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start_watch, "ELSEWHERE_SECONDS", LIMIT)
    confined, started = make_trial("tune-1", avoided=("a",)), Tracked()
    trials = {
        confined: Tracked(),
        make_trial("tune-2"): Tracked(),  # any node will do
        make_trial("tune-3", avoided=("a",), workers=2): Tracked(),  # its group gives up by itself
        make_trial("tune-4", avoided=("a",)): started,
    }
    controller = Ending(**vars(make_controller(trials, {started})), unstaged=[], ended=[])
    watch = StartWatch(None)
    while not controller.ended:
        look_until(watch, controller, LIMIT)
    look_until(watch, controller, 2 * LIMIT)
    assert [one.trial_id for one in controller.ended] == ["tune-1"]
    assert [one.trial_id for one in controller.unstaged] == ["tune-1"], "Tune would keep no driver for it"
    failure = watch.take_failure(confined)
    assert failure is not None
    assert (failure.kind, failure.lacks_room) == (FailureKind.START, True)
    assert failure.reason == "no room within 0.2 s on the nodes that the trial does not avoid"


class ConfinedStudy:
    """Source, listener and admission of three trials of the stand-in; the first one avoids the only node."""

    def __init__(self, folder: Path) -> None:
        self._avoided: list[tuple[str, ...]] = [(ray.get_runtime_context().get_node_id(),), (), ()]
        self._folder = folder
        self.failures: list[Failure] = []
        self.running: list[int] = []  # how many Tune had, each time it asked
        self.ended: list[int] = []

    def next(self) -> TrialConfig | None:
        number = 3 - len(self._avoided)
        if not self._avoided:
            return None
        folder = self._folder / f"{number:04d}"
        folder.mkdir()
        recipe = with_values(named_recipe("tiny", "/speech"), {"training.epochs": 1, "training.seed": 0})
        task = Task(recipe.model_dump_json(), recipe.hash, str(folder), score_tests=False)
        return TrialConfig(number, task, False, avoided=self._avoided.pop(0))

    def is_done(self) -> bool:
        return len(self.ended) == 2

    def is_stopping(self) -> bool:
        return False

    def admits(self, running: int) -> bool:
        self.running.append(running)
        return running == 0

    def look_at_commands(self) -> None: ...

    def find_orders(self, number: int) -> None: ...

    def record_epoch(self, number: int, report: Report) -> None: ...

    def complete(self, number: int, metrics: dict[str, float]) -> None:
        self.ended.append(number)

    def fail(self, number: int, failure: Failure) -> None:
        self.failures.append(failure)


def test_tune_goes_on_with_other_trials_after_one_that_found_no_room(
    ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_watch, "ELSEWHERE_SECONDS", 1.0)
    study, crew = ConfinedStudy(tmp_path), CrewConfig("stub_training:train", str(tmp_path / "train"), 1)
    listener: Any = study
    assert run_trials(study, listener, Never(), "dev/wer", crew, tmp_path, study) is None
    assert [(one.kind, one.lacks_room) for one in study.failures] == [(FailureKind.START, True)]
    assert study.ended == [1, 2]
    assert set(study.running) == {0, 1}, "Tune counted the first one on"
