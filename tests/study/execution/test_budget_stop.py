"""How a running trial leaves because of the budget: after a report, or with the whole study at a limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from cluster.resources import ClusterUse, TrialResources
from study.early_stopping.rule import Never
from study.execution.capacity import Capacity
from study.execution.tune_callbacks import EndCallback, RuleScheduler
from study.execution.tune_guard import FirstError
from study.workers.driver import MESSAGE, TRIAL
from study.workers.messages import Report, Task, TrialConfig

REASON = "budget: hours 23.9 of 24 used after epoch 2, no room for the rest of it"


class Listener:
    """Keeps what becomes of trials; people order nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))

    def is_stopping(self) -> bool:
        return False

    def find_orders(self, number: int) -> None:
        """Nothing."""


def make_trial(number: int, confirms: bool = False) -> Any:
    config = TrialConfig(number, Task("{}", "hash", "/folder"), is_baseline=False, confirms=confirms)
    return SimpleNamespace(config={TRIAL: config}, trial_id=str(number))


def test_a_trial_without_room_leaves_after_its_report_and_is_interrupted_confirmations_too() -> None:
    listener: Any = Listener()
    errors = FirstError(listener)
    scheduler = RuleScheduler(listener, Never(), "dev/wer", errors, lambda number: REASON if number else None)
    callback = EndCallback(listener, scheduler, errors)
    decisions = []
    for trial in (make_trial(0), make_trial(1), make_trial(2, confirms=True)):
        result = {MESSAGE: Report({"epoch": 2, "dev/wer": 20.0})}
        decisions.append(scheduler.on_trial_result(None, trial, result))
        if decisions[-1] == TrialScheduler.STOP:
            callback.on_trial_complete(1, [], trial)
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.STOP]
    ends = [call for call in listener.calls if call[0] != "record_epoch"]
    assert ends == [("interrupt_trial", 1, REASON), ("interrupt_trial", 2, REASON)]


class Cluster:
    """A cluster without a machine."""

    def look(self) -> ClusterUse:
        return ClusterUse(())

    def ask(self, count: int, avoided: object = ()) -> None: ...
    def withdraw(self) -> None: ...


def test_a_limit_that_is_reached_while_trials_run_or_wait_stops_the_study() -> None:
    for running in (0, 1):
        study = SimpleNamespace(stopped=None)
        capacity = Capacity(
            Cluster(),
            TrialResources(1, 1.0, 0.0),
            lambda count: 1,
            lambda concurrency, waits_for: None,
            study,
            find_end=lambda: "budget: hours 24 of 24 used; raise budget.hours",
        )
        assert not capacity.admits(running)
        assert study.stopped == "budget: hours 24 of 24 used; raise budget.hours"
