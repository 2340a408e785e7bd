"""How the events of Tune are reported to the listener, without a cluster."""

from __future__ import annotations

import math
import pickle
import signal
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.early_stopping.rule import Ruling
from study.early_stopping.rules import Never
from study.execution.tune_callbacks import EndCallback, RuleScheduler, StopAll, TrialSearcher
from study.execution.tune_guard import FirstError
from study.workers.driver import MESSAGE, TRIAL
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report, Task, TrialConfig

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


class RecordingListener:
    """Keeps every call."""

    def __init__(self, stopping: bool = False) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._stopping = stopping
        self.orders: list[tuple[Ruling, str]] = []  # what people want of every trial

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))

    def is_stopping(self) -> bool:
        return self._stopping

    def find_orders(self, number: int) -> list[tuple[Ruling, str]]:
        return self.orders


class FixedRule:
    """A rule with the same ruling for every trial."""

    def __init__(self, ruling: Ruling, why: str | None = None) -> None:
        self._ruling, self._why = ruling, why
        self.decided: list[tuple[bool, bool]] = []
        self.overridden: list[tuple[int, bool]] = []

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        self.decided.append((baseline, last))
        return self._ruling

    def explain(self, number: int) -> str | None:
        return self._why

    def remove(self, number: int) -> None: ...

    def override(self, number: int, ended: bool) -> None:
        self.overridden.append((number, ended))

    def promote_next(self, closed: bool = False) -> int | None:
        return None


def config(number: int, is_baseline: bool = False) -> TrialConfig:
    return TrialConfig(number, Task("{}", "hash", "/folder"), is_baseline)


def trial(number: int, is_baseline: bool = False) -> Any:
    return SimpleNamespace(trial_id=f"tune-{number}", config={TRIAL: config(number, is_baseline)})


def result(epoch: int, wer: float, **more: float) -> dict[str, Any]:
    return {MESSAGE: Report({"epoch": epoch, "dev/wer": wer, **more})}


def run(
    rule: Any, *results: dict[str, Any], listener: RecordingListener | None = None, is_baseline: bool = False
) -> list[tuple[Any, ...]]:
    """Pass one trial's results and its end on in Tune's order; what the listener received."""
    listener = listener or RecordingListener()
    errors = FirstError(listener)
    scheduler = RuleScheduler(listener, rule, "dev/wer", errors)
    callback = EndCallback(listener, scheduler, errors)
    for reported in results:
        ruling = scheduler.on_trial_result(None, trial(0, is_baseline), reported)
        callback.on_trial_result(1, [], trial(0), reported)
        if ruling == STOP:
            break
    callback.on_trial_complete(1, [], trial(0))
    return listener.calls


def test_only_a_trial_that_reported_finished_is_complete() -> None:
    last = result(4, 20.0, finished=1.0)
    calls = run(Never(), result(3, 30.0), last)
    assert [name for name, *_ in calls] == ["record_epoch", "complete"], "the final figures are no epoch"
    assert calls[-1] == ("complete", 0, last[MESSAGE].metrics)
    reason = "training ended after epoch 3 without final figures"
    assert run(Never(), result(3, 30.0))[-1] == ("fail", 0, Failure(FailureKind.ERROR, reason))


def test_a_pruned_trial_names_its_rung() -> None:
    calls = run(FixedRule(Ruling.PRUNE), result(2, 80.0), result(3, 1.0))
    assert calls[-1] == ("prune", 0, "dev/wer 80 at epoch 2 is behind its rung")


def test_a_trial_that_is_stopped_has_the_rules_own_reason_where_it_gives_one() -> None:
    calls = run(FixedRule(Ruling.PRUNE, "dev/cer 40 is above the cut 30"), result(2, 80.0))
    assert calls[-1] == ("prune", 0, "dev/wer 80 at epoch 2: dev/cer 40 is above the cut 30")


def test_a_trial_that_was_compared_and_goes_on_has_what_the_ruling_rests_on() -> None:
    calls = run(
        FixedRule(Ruling.CONTINUE, "dev/cer 20 is below the cut 30"), result(2, 80.0), result(3, 9.0, finished=1.0)
    )
    assert calls[1] == ("go_on", 0, 2, "dev/wer 80 at epoch 2: dev/cer 20 is below the cut 30")
    assert [name for name, *_ in run(FixedRule(Ruling.CONTINUE), result(2, 80.0))] == ["record_epoch", "fail"]


def test_a_paused_trial_names_its_epoch() -> None:
    calls = run(FixedRule(Ruling.PAUSE), result(2, 80.0))
    assert calls[-1] == ("pause", 0, 2, "dev/wer 80 at epoch 2 waits at its rung")


def test_the_rule_receives_whether_a_trial_is_a_baseline_and_at_its_last_epoch() -> None:
    rule = FixedRule(Ruling.CONTINUE)
    run(rule, result(1, 80.0), result(2, 70.0, last_epoch=1.0), result(2, 60.0, finished=1.0), is_baseline=True)
    assert rule.decided == [(True, False), (True, True)]


def test_an_objective_that_is_not_finite_ends_the_trial() -> None:
    calls = run(Never(), result(3, math.nan), result(4, 1.0))
    assert calls[-1] == ("fail", 0, Failure(FailureKind.NON_FINITE, "dev/wer is nan at epoch 3"))


def test_a_failure_is_reported_instead_of_the_end_that_follows_it() -> None:
    lost = Failure(FailureKind.LOST, "worker 1 of 2 was lost")
    assert run(Never(), result(1, 30.0), {"done": True, MESSAGE: lost})[-1] == ("fail", 0, lost)


def test_a_heartbeat_is_not_an_epoch() -> None:
    calls = run(FixedRule(Ruling.PRUNE), {}, {}, result(1, 5.0))
    assert [name for name, *_ in calls] == ["record_epoch", "prune"]


def test_the_end_of_a_trial_that_is_stopped_with_the_study_is_not_reported() -> None:
    calls = run(Never(), result(1, 30.0), listener=RecordingListener(stopping=True))
    assert [name for name, *_ in calls] == ["record_epoch"]


def test_a_driver_that_died_is_reported_as_a_lost_trial() -> None:
    listener = RecordingListener()
    errors = FirstError(listener)
    callback = EndCallback(listener, RuleScheduler(listener, Never(), "dev/wer", errors), errors)
    callback.on_trial_error(1, [], trial(3))
    lost = Failure(FailureKind.LOST, "the trial's driver was lost (Ray gave no reason)")
    assert listener.calls == [("fail", 3, lost)]


class ListenerOnFullDisk(RecordingListener):
    """Cannot record an epoch, because the disk is full."""

    def record_epoch(self, number: int, report: Report) -> None:
        self.calls.append(("record_epoch", number))
        raise OSError(28, "No space left on device")


def test_an_error_of_the_listener_stops_the_study_and_is_kept() -> None:
    listener = ListenerOnFullDisk()
    errors = FirstError(listener)
    scheduler = RuleScheduler(listener, Never(), "dev/wer", errors)
    ruling = scheduler.on_trial_result(None, trial(0), result(1, 30.0))
    assert ruling == STOP, "the trial continued after an epoch that was not recorded"
    assert StopAll(errors).stop_all()
    assert isinstance(errors.error, OSError)


def test_nothing_is_reported_after_an_epoch_that_could_not_be_recorded() -> None:
    assert run(Never(), result(4, 30.0, last_epoch=1.0), listener=ListenerOnFullDisk()) == [("record_epoch", 0)]


class FixedSource:
    """A source of a fixed list of trials."""

    def __init__(self, *trials: TrialConfig, done: bool = False) -> None:
        self._trials, self._done = list(trials), done

    def next(self) -> TrialConfig | None:
        return self._trials.pop(0) if self._trials else None

    def is_done(self) -> bool:
        return self._done


class FixedRoom:
    """Room for so many trials."""

    def __init__(self, trials: int = 9) -> None:
        self.trials = trials

    def admits(self, running: int) -> bool:
        return running < self.trials


@pytest.mark.parametrize(("done", "after"), [(True, Searcher.FINISHED), (False, None)])
def test_the_searcher_waits_until_the_source_is_done(done: bool, after: Any) -> None:
    searcher = TrialSearcher(FixedSource(config(0), done=done), FirstError(RecordingListener()), FixedRoom())
    assert searcher.suggest("a") == {TRIAL: config(0)}
    assert searcher.suggest("b") == after


def test_a_trial_is_taken_from_the_source_only_when_there_is_room_beside_those_that_have_not_ended() -> None:
    source, room = FixedSource(config(0), config(1), config(2)), FixedRoom(trials=1)
    searcher = TrialSearcher(source, FirstError(RecordingListener()), room)
    assert searcher.suggest("a") == {TRIAL: config(0)}
    assert searcher.suggest("b") is None
    room.trials = 2
    assert searcher.suggest("c") == {TRIAL: config(1)}
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("a")
    assert searcher.suggest("d") == {TRIAL: config(2)}
    assert searcher.suggest("e") is None


def test_an_error_while_room_is_looked_for_stops_the_study_and_is_kept() -> None:
    class Broken:
        def admits(self, running: int) -> bool:
            raise OSError("the head is gone")

    errors = FirstError(RecordingListener())
    assert TrialSearcher(FixedSource(config(0)), errors, Broken()).suggest("a") == Searcher.FINISHED
    assert isinstance(errors.error, OSError)


def test_a_study_that_is_stopping_starts_no_trial() -> None:
    searcher = TrialSearcher(FixedSource(config(0)), FirstError(RecordingListener(stopping=True)), FixedRoom())
    assert searcher.suggest("a") == Searcher.FINISHED


def test_everything_that_tune_gets_can_be_pickled() -> None:
    errors = FirstError(RecordingListener())
    scheduler = RuleScheduler(RecordingListener(), Never(), "m", errors)
    for part in (
        scheduler,
        EndCallback(RecordingListener(), scheduler, errors),
        TrialSearcher(FixedSource(), errors, FixedRoom()),
        StopAll(errors),
    ):
        assert type(pickle.loads(pickle.dumps(part))) is type(part)


def test_sigint_reaches_tune_and_a_searcher_that_waits_for_a_retry() -> None:
    reached_tune: list[int] = []
    before = signal.signal(signal.SIGINT, lambda kind, frame: reached_tune.append(kind))
    try:
        errors = FirstError(RecordingListener())
        searcher = TrialSearcher(FixedSource(done=False), errors, FixedRoom())
        EndCallback(RecordingListener(), RuleScheduler(RecordingListener(), Never(), "m", errors), errors).setup()
        assert searcher.suggest("a") is None, "no trial is due yet, and the source is not done"
        signal.raise_signal(signal.SIGINT)
        assert searcher.suggest("b") == Searcher.FINISHED
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached_tune == [signal.SIGINT]
