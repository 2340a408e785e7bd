"""How Tune's events become what happened to a trial, without a cluster."""

from __future__ import annotations

import math
import pickle
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils.util import flatten_dict

from study.early_stopping.rules import Never
from study.early_stopping.verdict import Verdict
from study.execution.tune import Scheduler, _Searcher, _Stop, _Teller
from study.execution.tune_guard import Guard
from study.workers.driver import BROKE, REPORT
from study.workers.failure import Failure, Kind

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


class Heard:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.stop = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given: self.told.append((name, *given))

    def stopping(self) -> bool:
        return self.stop


class Fixed:
    """A rule that says the same of every trial."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        return self._verdict


def trial(number: int, baseline: str | None = None) -> Any:
    return SimpleNamespace(trial_id=f"tune-{number}", config={"number": number, "baseline": baseline})


def result(epoch: int, wer: float, **more: float) -> dict[str, Any]:
    metrics = {"epoch": epoch, "dev/wer": wer, **more}
    return metrics | {REPORT: metrics}


def run(rule: Any, *results: dict[str, Any], heard: Heard | None = None) -> Heard:
    """One trial from its results to its end, as Tune would have it."""
    heard = heard or Heard()
    guard = Guard(heard)
    scheduler = Scheduler(heard, rule, "dev/wer", guard)
    teller = _Teller(heard, scheduler, guard)
    for each in results:
        decision = scheduler.on_trial_result(None, trial(0), flatten_dict(each))
        teller.on_trial_result(1, [], trial(0), each)
        if decision == STOP:
            break
    teller.on_trial_complete(1, [], trial(0))
    return heard


def test_only_a_trial_that_said_finished_is_complete() -> None:
    last = result(4, 20.0, finished=1.0)
    assert run(Never(), result(3, 30.0), last).told[-1] == ("complete", 0, last[REPORT])
    words = "training ended after epoch 3 without final figures"
    assert run(Never(), result(3, 30.0)).told[-1] == ("broke", 0, Failure(Kind.ERROR, words))


def test_a_pruned_trial_is_told_with_its_rung() -> None:
    told = run(Fixed(Verdict.PRUNE), result(2, 80.0), result(3, 1.0)).told
    assert told[-1] == ("pruned", 0, "dev/wer 80 at epoch 2 is behind its rung")


def test_a_paused_trial_is_told_with_its_epoch() -> None:
    told = run(Fixed(Verdict.PAUSE), result(2, 80.0)).told
    assert told[-1] == ("paused", 0, 2, "dev/wer 80 at epoch 2 waits at its rung")


def test_an_objective_that_is_no_number_ends_the_trial_at_once() -> None:
    told = run(Never(), result(3, math.nan), result(4, 1.0)).told
    assert told[-1] == ("broke", 0, Failure(Kind.NON_FINITE, "dev/wer is nan at epoch 3"))


def test_what_broke_a_trial_is_told_and_not_that_it_ended() -> None:
    told = run(Never(), result(1, 30.0), {"done": True, BROKE: ("lost", "worker 1 of 2 was lost")}).told
    assert told[-1] == ("broke", 0, Failure(Kind.LOST, "worker 1 of 2 was lost"))


def test_a_heartbeat_is_no_epoch() -> None:
    assert run(Fixed(Verdict.PRUNE), {}, {}, result(1, 5.0)).told[0][0] == "epoch"


def test_a_trial_that_is_stopped_with_the_study_has_no_end() -> None:
    heard = Heard()
    heard.stop = True
    assert [name for name, *_ in run(Never(), result(1, 30.0), heard=heard).told] == ["epoch"]


def test_a_driver_that_died_is_a_lost_trial() -> None:
    heard = Heard()
    guard = Guard(heard)
    teller = _Teller(heard, Scheduler(heard, Never(), "dev/wer", guard), guard)
    teller.on_trial_error(1, [], trial(3))
    assert heard.told == [("broke", 3, Failure(Kind.LOST, "the trial's driver was lost (it ended without a word)"))]


class Broken(Heard):
    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        super().__getattr__("epoch")(number)
        raise OSError(28, "No space left on device")


def test_an_error_of_the_records_stops_the_study_and_is_kept_for_its_end() -> None:
    heard = Broken()
    guard = Guard(heard)
    scheduler = Scheduler(heard, Never(), "dev/wer", guard)
    decision = scheduler.on_trial_result(None, trial(0), flatten_dict(result(1, 30.0)))
    assert decision == STOP, "the trial went on from an epoch that is written nowhere"
    assert _Stop(guard).stop_all()
    assert isinstance(guard.error, OSError)


def test_after_an_epoch_that_could_not_be_written_nothing_more_is_told() -> None:
    assert run(Never(), result(4, 30.0, finished=1.0), heard=Broken()).told == [("epoch", 0)]


class Given:
    """A source that gives what it was made with."""

    def __init__(self, *configs: dict[str, Any] | None, done: bool = False) -> None:
        self._configs, self._done = list(configs), done

    def next(self) -> dict[str, Any] | None:
        return self._configs.pop(0) if self._configs else None

    def done(self) -> bool:
        return self._done


@pytest.mark.parametrize(("done", "after"), [(True, Searcher.FINISHED), (False, None)])
def test_the_searcher_waits_until_the_source_is_done(done: bool, after: Any) -> None:
    searcher = _Searcher(Given({"number": 0}, done=done), Guard(Heard()))
    assert searcher.suggest("a") == {"number": 0}
    assert searcher.suggest("b") == after


def test_a_study_that_is_stopping_starts_nothing() -> None:
    heard = Heard()
    heard.stop = True
    assert _Searcher(Given({"number": 0}), Guard(heard)).suggest("a") == Searcher.FINISHED


def test_what_is_handed_to_tune_survives_its_snapshots() -> None:
    heard = Heard()
    guard = Guard(heard)
    scheduler = Scheduler(heard, Never(), "m", guard)
    for each in (scheduler, _Teller(heard, scheduler, guard), _Searcher(Given(), guard), _Stop(guard)):
        pickle.dumps(each)


def test_a_stop_signal_is_heard_by_tune_and_by_a_searcher_that_waits_for_a_retry() -> None:
    heard_by_tune: list[int] = []
    before = signal.signal(signal.SIGINT, lambda kind, frame: heard_by_tune.append(kind))
    try:
        guard = Guard(Heard())
        searcher = _Searcher(Given(done=False), guard)
        _Teller(Heard(), Scheduler(Heard(), Never(), "m", guard), guard).setup()
        assert searcher.suggest("a") is None, "nothing is due, and more will come"
        signal.raise_signal(signal.SIGINT)
        assert searcher.suggest("b") == Searcher.FINISHED
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard_by_tune == [signal.SIGINT]
