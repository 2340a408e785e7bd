"""What Tune requests and reports while it runs: the next trial, whether a trial continues, how a trial ended.

Tune decides nothing about the search. The searcher returns the next trial, the scheduler asks the study's rule after
every epoch, and the callback passes each trial's end to the listener.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from cluster.embedded import describe_ended
from cluster.placement_groups import OrphanWatch
from study.early_stopping.rule import Rule, Ruling
from study.execution.driver_watch import DriverWatch
from study.execution.start_watch import StartWatch
from study.execution.tune_guard import FirstError, NotPickled, RayEnded
from study.execution.tune_memory import ForgetfulScheduler
from study.execution.tune_trials import describe_error, number_of, read_error
from study.workers.driver import MESSAGE, TRIAL, StalledError
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report, TrialConfig


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
    def interrupt_trial(self, number: int, reason: str) -> None: ...
    def go_on(self, number: int, epoch: int, reason: str) -> None: ...
    def fail(self, number: int, failure: Failure) -> None: ...

    def find_orders(self, number: int) -> list[tuple[Ruling, str]]:
        """What people have ordered of a trial that has reported, with the reasons, in the order to follow it."""

    def look_at_commands(self) -> None:
        """Carry out what people have ordered since the last look."""

    def is_stopping(self) -> bool:
        """Whether the study is to stop."""


class Admission(Protocol):
    """Decides whether one more trial may start."""

    def admits(self, running: int) -> bool:
        """Whether one more may start beside `running` ones."""


class TrialSearcher(NotPickled, Searcher):
    """Returns one trial after the other, each when it is admitted."""

    def __init__(
        self, source: Source, errors: FirstError, admission: Admission, look: Callable[[], object] = lambda: None
    ) -> None:
        """`look` takes commands in, also while nothing runs: then Tune asks for trials alone, again and again."""
        super().__init__()
        self._source, self._errors, self._admission, self._look = source, errors, admission, look
        self._running: set[str] = set()  # Tune's ids of the trials that it has, whether they run or wait

    def suggest(self, trial_id: str) -> Any:
        trial = None
        self._errors.call(self._look)
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


class RuleScheduler(NotPickled, ForgetfulScheduler):
    """Has each epoch recorded, then asks the rule; ends a trial whose objective is not finite.

    Recorded here and not in the callback, which Tune calls when it has decided: a trial whose epoch could not be
    recorded gets no answer to it, and so reports it again when it continues.
    """

    def __init__(
        self,
        listener: Listener,
        rule: Rule,
        objective: str,
        errors: FirstError,
        find_stop: Callable[[int], str | None] = lambda number: None,
        leave: Callable[[Trial], object] = lambda trial: None,
    ) -> None:
        """`find_stop` says why a trial that the rule lets continue has to leave its workers; None where it need not.

        `leave` has the workers of a trial leave it that stops now and may continue later.
        """
        super().__init__()
        self._listener, self._rule, self._objective, self._errors = listener, rule, objective, errors
        self._find_stop, self._leave = find_stop, leave
        self.controller: Any = None  # Tune's, once it has a trial
        self.last: dict[int, dict[str, float]] = {}  # the metrics of a trial's last report
        self.decided: dict[int, tuple[Ruling | FailureKind, str]] = {}  # why a trial was stopped

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self.controller = tune_controller
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
        decision = self._follow_orders(number, self._judge(trial.config[TRIAL], report.metrics))
        if decision == TrialScheduler.CONTINUE and (reason := self._errors.call(self._find_stop, number)):
            self.decided[number] = (Ruling.INTERRUPT, reason)
            decision = TrialScheduler.STOP
        if decision == TrialScheduler.STOP and self.decided[number][0] in (Ruling.PAUSE, Ruling.INTERRUPT):
            self._leave(trial)  # before it may continue with other workers
        return decision

    def _follow_orders(self, number: int, decision: str) -> str:
        """What follows where people have ordered something of the trial, whatever the rule says."""
        orders = self._errors.call(self._listener.find_orders, number) or []
        if isinstance(self.decided.get(number, (None, ""))[0], FailureKind):
            return decision
        for order in orders:
            decision = self._follow_order(number, order, decision)
        return decision

    def _follow_order(self, number: int, order: tuple[Ruling, str], decision: str) -> str:
        """What follows from one order, after the rule's ruling and the orders before it."""
        ruling, goes_on = order[0], decision == TrialScheduler.CONTINUE
        # What the rule stops is not paused instead, and what it lets continue needs no promotion.
        if (ruling is Ruling.INTERRUPT and not goes_on) or (ruling is Ruling.CONTINUE and goes_on):
            return decision
        if ruling is not Ruling.INTERRUPT:
            self._rule.override(number, ended=ruling is Ruling.PRUNE)
        if ruling is Ruling.CONTINUE:
            self.decided.pop(number)
            return TrialScheduler.CONTINUE
        self.decided[number] = order
        return TrialScheduler.STOP

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

    def __init__(
        self,
        listener: Listener,
        scheduler: RuleScheduler,
        errors: FirstError,
        drivers: DriverWatch | None = None,
        starts: StartWatch | None = None,
    ) -> None:
        self._listener, self._scheduler, self._errors = listener, scheduler, errors
        self._drivers, self._starts = drivers or DriverWatch(None), starts or StartWatch(None)
        self._failures: dict[int, Failure] = {}
        self._orphans = OrphanWatch()

    def setup(self, *arguments: Any, **info: Any) -> None:
        self._errors.catch_sigint()  # now that Tune has put its own handler in place

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._orphans.step()
        self._errors.call(self._listener.look_at_commands)
        self._drivers.look(trials)
        self._starts.look(self._scheduler.controller)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._drivers.note(trial)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        number = number_of(trial)
        self._drivers.note(trial)
        if isinstance(failure := result.get(MESSAGE), Failure):
            self._failures[number] = failure
            if failure.kind in (FailureKind.LOST, FailureKind.START):
                self._orphans.begin()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._errors.call(self._pass_on, number_of(trial))

    def _pass_on(self, number: int) -> None:
        metrics = self._scheduler.last.pop(number, {})
        epoch = int(metrics.get("epoch", 0))
        ruling, reason = self._scheduler.decided.pop(number, (None, ""))
        failure = self._failures.pop(number, None)
        if isinstance(ruling, FailureKind):
            failure = Failure(ruling, reason)
        if failure is not None:
            self._listener.fail(number, failure)
        elif ruling is Ruling.PRUNE:
            self._listener.prune(number, reason)
        elif ruling is Ruling.PAUSE:
            self._listener.pause(number, epoch, reason)
        elif ruling is Ruling.INTERRUPT:
            self._listener.interrupt_trial(number, reason)
        elif metrics.get("finished"):
            self._listener.complete(number, metrics)
        elif not self._errors.is_stopping():  # else it was stopped with the study, and continues in a later session
            reason = f"training ended after epoch {epoch} without final figures"
            self._listener.fail(number, Failure(FailureKind.ERROR, reason))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = number_of(trial)
        self._scheduler.last.pop(number, None)
        self._orphans.begin()  # its workers die with it, but Ray keeps their resources
        error = read_error(trial)
        if isinstance(error, StalledError):
            failure = error.failure
        elif (late := self._starts.take_failure(trial)) is not None:
            failure = late
        else:
            reason = self._drivers.take_silence(trial) or f"the trial's driver was lost ({describe_error(error)})"
            failure = Failure(FailureKind.LOST, reason)
        self._errors.call(self._listener.fail, number, failure)


class StopAll(NotPickled, tune.Stopper):
    """Ends all trials when the study is to stop; Tune asks it at each of its steps."""

    def __init__(self, errors: FirstError, find_ended: Callable[[], str | None] = lambda: None) -> None:
        """`find_ended` names a process of Ray's that is no more; RayEnded is raised then."""
        self._errors, self._find_ended = errors, find_ended

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if (name := self._find_ended()) is not None:
            raise RayEnded(describe_ended(name))
        return self._errors.is_stopping()
