"""What Tune requests and reports while it runs: the next trial, whether a trial continues, how a trial ended.

Tune decides nothing about the search. The searcher returns the next trial, the scheduler asks the study's rule after
every epoch, and the callback passes each trial's end to the listener.
"""

from __future__ import annotations

import contextlib
import math
import pickle
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.placement_groups import OrphanWatch
from study.early_stopping.rule import Rule, Ruling
from study.execution.tune_guard import FirstError, NotPickled
from study.workers.driver import MESSAGE, TRIAL
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report, TrialConfig
from study.workers.worker import one_line

_LONGEST_REASON = 200  # characters; Ray reports in a paragraph how an actor died


class Source(Protocol):
    """Where trials come from."""

    def next(self) -> TrialConfig | None:
        """The next trial; None while there is none."""

    def is_done(self) -> bool:
        """Whether no more will come."""


class Listener(Protocol):
    """Receives what becomes of every trial."""

    def record_epoch(self, number: int, report: Report) -> None: ...
    def complete(self, number: int, metrics: dict[str, float]) -> None: ...
    def prune(self, number: int, reason: str) -> None: ...
    def pause(self, number: int, epoch: int, reason: str) -> None: ...
    def go_on(self, number: int, epoch: int, reason: str) -> None: ...
    def fail(self, number: int, failure: Failure) -> None: ...

    def is_stopping(self) -> bool:
        """Whether the study is to stop."""


class Admission(Protocol):
    """Decides whether one more trial may start."""

    def admits(self, running: int) -> bool:
        """Whether one more may start beside `running` ones."""


class TrialSearcher(NotPickled, Searcher):
    """Returns one trial after the other, each when it is admitted."""

    def __init__(self, source: Source, errors: FirstError, admission: Admission) -> None:
        super().__init__()
        self._source, self._errors, self._admission = source, errors, admission
        self._running: set[str] = set()  # Tune's ids of the trials that it has, whether they run or wait

    def suggest(self, trial_id: str) -> Any:
        trial = None
        if not self._errors.is_stopping() and self._errors.call(self._admission.admits, len(self._running)):
            trial = self._errors.call(self._source.next)
        if trial is not None:
            self._running.add(trial_id)
            return {TRIAL: trial}
        return Searcher.FINISHED if self._errors.is_stopping() or self._source.is_done() else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The callback reports how a trial ended; Tune does not report here whether it was stopped."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study continues from its ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see save."""


class RuleScheduler(NotPickled, FIFOScheduler):
    """Has each epoch recorded, then asks the rule; ends a trial whose objective is not finite.

    Recorded here and not in the callback, which Tune calls when it has decided: a trial whose epoch could not be
    recorded gets no answer to it, and so reports it again when it continues.
    """

    def __init__(self, listener: Listener, rule: Rule, objective: str, errors: FirstError) -> None:
        super().__init__()
        self._listener, self._rule, self._objective, self._errors = listener, rule, objective, errors
        self.last: dict[int, dict[str, float]] = {}  # the metrics of a trial's last report
        self.decided: dict[int, tuple[Ruling | FailureKind, str]] = {}  # why a trial was stopped

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self.decided.pop(number_of(trial), None)  # it was paused, or is retried

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        report = result.get(MESSAGE)
        if not isinstance(report, Report):
            return TrialScheduler.CONTINUE  # a heartbeat, or a failure that the callback handles
        number = number_of(trial)
        self.last[number] = report.metrics
        if report.metrics.get("finished"):  # the chosen weights' figures, which the trial's end records
            return TrialScheduler.CONTINUE
        self._errors.call(self._listener.record_epoch, number, report)
        if self._errors.error is not None:
            return TrialScheduler.STOP
        return self._judge(trial.config[TRIAL], report.metrics)

    def _judge(self, trial: TrialConfig, metrics: dict[str, float]) -> str:
        if self._objective not in metrics:
            return TrialScheduler.CONTINUE
        epoch, value = int(metrics["epoch"]), metrics[self._objective]
        if not math.isfinite(value):
            reason = f"{self._objective} is {value} at epoch {epoch}"
            self.decided[trial.number] = (FailureKind.NON_FINITE, reason)
            return TrialScheduler.STOP
        if trial.confirms:
            return TrialScheduler.CONTINUE
        last = bool(metrics.get("last_epoch"))
        ruling = self._rule.decide(trial.number, epoch, metrics, baseline=trial.is_baseline, last=last)
        why, stands = self._rule.explain(trial.number), f"{self._objective} {value:g} at epoch {epoch}"
        if ruling is Ruling.CONTINUE:
            if why:
                self._errors.call(self._listener.go_on, trial.number, epoch, f"{stands}: {why}")
            return TrialScheduler.CONTINUE
        reason = f"{stands} is behind its rung" if ruling is Ruling.PRUNE else f"{stands} waits at its rung"
        if why:
            reason = f"{stands}: {why}"
        self.decided[trial.number] = (ruling, reason)
        return TrialScheduler.STOP


class EndCallback(NotPickled, tune.Callback):
    """Passes the end of each trial on, with the state that it really ended in."""

    def __init__(self, listener: Listener, scheduler: RuleScheduler, errors: FirstError) -> None:
        self._listener, self._scheduler, self._errors = listener, scheduler, errors
        self._failures: dict[int, Failure] = {}
        self._orphans = OrphanWatch()

    def setup(self, *arguments: Any, **info: Any) -> None:
        self._errors.catch_sigint()  # now that Tune has put its own handler in place

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._orphans.step()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        number = number_of(trial)
        if isinstance(failure := result.get(MESSAGE), Failure):
            self._failures[number] = failure
            if failure.kind in (FailureKind.LOST, FailureKind.START):
                self._orphans.begin()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._errors.call(self._pass_on, number_of(trial))

    def _pass_on(self, number: int) -> None:
        metrics = self._scheduler.last.get(number, {})
        epoch = int(metrics.get("epoch", 0))
        ruling, reason = self._scheduler.decided.get(number, (None, ""))
        failure = self._failures.pop(number, None)
        if isinstance(ruling, FailureKind):
            failure = Failure(ruling, reason)
        if failure is not None:
            self._listener.fail(number, failure)
        elif ruling is Ruling.PRUNE:
            self._listener.prune(number, reason)
        elif ruling is Ruling.PAUSE:
            self._listener.pause(number, epoch, reason)
        elif metrics.get("finished"):
            self._listener.complete(number, metrics)
        elif not self._errors.is_stopping():  # else it was stopped with the study, and continues in a later session
            reason = f"training ended after epoch {epoch} without final figures"
            self._listener.fail(number, Failure(FailureKind.ERROR, reason))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = number_of(trial)
        self._orphans.begin()  # its workers die with it, but Ray keeps their resources
        reason = f"the trial's driver was lost ({_reason(trial)})"
        self._errors.call(self._listener.fail, number, Failure(FailureKind.LOST, reason))


class StopAll(NotPickled, tune.Stopper):
    """Ends all trials when the study is to stop."""

    def __init__(self, errors: FirstError) -> None:
        self._errors = errors

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._errors.is_stopping()


def number_of(trial: Trial) -> int:
    """The study's number of a trial of Tune's."""
    config: TrialConfig = trial.config[TRIAL]
    return config.number


def _reason(trial: Trial) -> str:
    with contextlib.suppress(OSError, pickle.PickleError, TypeError, AttributeError):
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        return one_line(getattr(error, "cause", None) or error).split(". ")[0][:_LONGEST_REASON]
    return "Ray gave no reason"
