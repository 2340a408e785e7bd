"""One call of `run`: gives Tune the trials of the agenda, and records what becomes of them.

An event is written to the ledger first; the observers are updated afterwards.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from model.weights.found_decoding import read_found
from study.early_stopping.rule import Rule, Ruling
from study.execution.agenda import Agenda
from study.execution.best_scoring import BestScoring
from study.execution.command_desk import CommandDesk
from study.execution.decisions import Action, Decision
from study.execution.decode import search_event
from study.execution.ended_trials import tidy_trial
from study.execution.node_watch import NodeWatch, list_worker_nodes, read_excluded_nodes
from study.execution.session_events import (
    describe_exclusion,
    describe_halt,
    make_end,
    make_epoch,
    make_infeasible,
    make_retry,
    without_facts,
)
from study.execution.shared_training import SharedTrainings, find_training, share_training
from study.execution.trial_configs import make_config
from study.ledger.events import (
    AnyEvent,
    TestsStarted,
    TrialContinued,
    TrialPaused,
    TrialState,
)
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.search.proposal import InfeasiblePoint, Proposal
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report, TrialConfig
from study.workers.storage import place_weights

NEVER_PROMOTED = "others of its rung were better"


class Observer(Protocol):
    """Shows or follows the trials."""

    def update(self, record: TrialRecord) -> None:
        """A trial's record has changed."""


class Session:
    """Source and listener of `study.execution.tune`. `clock` gives seconds, `announce` gets lines for the user."""

    def __init__(
        self,
        ledger: Ledger,
        agenda: Agenda,
        rule: Rule,
        observers: Sequence[Observer],
        clock: Callable[[], float] = time.monotonic,
        watch: NodeWatch | None = None,
        announce: Callable[[str], object] = print,
    ) -> None:
        """`watch` knows the cluster's nodes; by default those of the Ray that this process is connected to."""
        self.stopped: str | None = None  # why the study stops before its end
        self._ledger, self._agenda, self._rule, self._observers = ledger, agenda, rule, observers
        self._clock, self._announce = clock, announce
        self._watch = watch or NodeWatch(list_worker_nodes, ledger.study.workers, read_excluded_nodes())
        self._watch.keep_excluded(ledger.trials.excluded)
        self._latest: dict[int, float] = {}  # when a running trial started, or reported last
        self._trainings = SharedTrainings(ledger, clock)
        self._scoring = BestScoring(ledger)
        self._desk = CommandDesk(ledger, rule, self._watch, self._update, announce, clock)

    def next(self) -> TrialConfig | None:
        """The next trial, recorded as started; None while there is none.

        When all have ended, the best one comes again, for its test sets.
        """
        self._ledger.check_ownership()
        if exhaustion := self._watch.find_exhaustion():
            self.stopped = exhaustion
            return None
        if self._ledger.trials.steering.starts_nothing:
            return None
        proposal = self._next_proposal()
        if proposal is not None:
            return self._start(proposal)
        if self._agenda.is_done():
            number = self._scoring.begin(self._watch.has_room)
            return None if number is None else self._start_scoring(number)
        return None

    def is_done(self) -> bool:
        """Whether no more trial will come in this session."""
        if self._ledger.trials.steering.drained_by is not None:
            return not self._ledger.trials.running and self._scoring.number is None
        if self.is_paused:
            return False
        return self.is_complete() or bool(self._agenda.list_held())

    def is_complete(self) -> bool:
        """Whether all that the study was to do is done."""
        return self._agenda.is_done() and self._scoring.is_done()

    @property
    def is_paused(self) -> bool:
        """Whether a person has paused it, so that it waits until another resumes it."""
        return self._ledger.trials.steering.paused_by is not None

    def is_stopping(self) -> bool:
        """Whether the study is to stop before its end."""
        return self.stopped is not None

    def record_epoch(self, number: int, report: Report) -> None:
        """Record what a trial reported."""
        self._latest[number] = self._clock()
        event = make_epoch(number, report)
        self._record(event, number)
        self._watch.note_progress(number, event.epoch)
        self._exclude_nodes()

    def complete(self, number: int, metrics: dict[str, float]) -> None:
        """A trial came to its end; `metrics` are those of its last report, of the weights that were chosen."""
        self._watch.note_progress(number)
        self._exclude_nodes()
        if number == self._scoring.number:
            self._record(self._scoring.complete(metrics), number)
            return
        self._agenda.note_success()
        self._record_search(number)
        self._end(number, TrialState.COMPLETE, None, without_facts(metrics))

    def prune(self, number: int, reason: str) -> None:
        """The rule stopped a trial."""
        self._agenda.note_success()
        self._end(number, TrialState.PRUNED, reason)

    def pause(self, number: int, epoch: int, reason: str) -> None:
        """A trial waits at a rung."""
        self._record(TrialPaused(number=number, epoch=epoch, reason=reason), number)

    def look_at_commands(self) -> None:
        """Carry out what people have ordered since the last look."""
        self._desk.look()

    def find_orders(self, number: int) -> list[tuple[Ruling, str]]:
        """What people have ordered of a trial that has reported, with the reasons, in the order to follow it."""
        return self._desk.find_orders(number)

    def interrupt_trial(self, number: int, reason: str) -> None:
        """A trial left its workers after an epoch, and may continue from there."""
        self._end(number, TrialState.INTERRUPTED, reason)

    def go_on(self, number: int, epoch: int, reason: str) -> None:
        """A trial was compared at a rung, and continues."""
        self._record(TrialContinued(number=number, epoch=epoch, reason=reason), number)

    def fail(self, number: int, failure: Failure) -> None:
        """A trial failed: retry it, end it, or stop the study. An OSError where the disk is full."""
        elsewhere = self._watch.tries_elsewhere(number, failure, self._ledger.trials[number].epoch)
        if number == self._scoring.number:
            self.stopped = self.stopped or self._scoring.fail(failure, elsewhere)
            return
        decision = self._agenda.handle_failure(number, failure, elsewhere)
        if decision.action in (Action.RETRY, Action.MOVE):
            self._record(make_retry(number, decision, failure, self._lost_seconds(number)), number)
            self._trainings.note_retry(number)
        else:
            self._end_failed(number, decision, failure)
        self._exclude_nodes()
        if decision.action is Action.STOP and failure.kind is FailureKind.DISK_FULL:
            # Reported alike, whichever process met it first.
            raise OSError(errno.ENOSPC, failure.reason)
        if decision.action is Action.STOP:
            self.stopped = describe_halt(decision)

    def end_never_promoted(self) -> None:
        """End the trials that wait at a rung and will never continue, once all other trials have ended."""
        for number in self._agenda.never_promoted():
            self._end(number, TrialState.PRUNED, NEVER_PROMOTED)

    def interrupt(self) -> None:
        """Record the trials that still run as interrupted; a later session continues them."""
        for number in self._ledger.trials.running:
            self._end(number, TrialState.INTERRUPTED, "the study was stopped")

    def _next_proposal(self) -> Proposal | None:
        """The next one that may start now. One that another trial trains now is dropped: the agenda gives it again, or
        what has become more urgent, such as that other trial once it has lost its workers."""
        if self._trainings.is_waiting():
            return None
        while (given := self._agenda.next()) is not None:
            if isinstance(given, InfeasiblePoint):
                self._record(make_infeasible(given), given.number)
            elif not isinstance(given, Proposal):
                self._ledger.append(given)
            elif not self._may_not_start(given):
                if (other := self._trainings.find_other(given.number, given.recipe)) is None:
                    return given
                self._leave_rung(given.number, f"waits for trial {other:04d}, which trains the same recipe")
                self._trainings.note_wait()
                break
        return None

    def _may_not_start(self, proposal: Proposal) -> bool:
        """Whether a person has stopped or paused the trial while it waited; one that its rung has promoted then waits
        for that person alone."""
        record, steering = self._ledger.trials.get(proposal.number), self._ledger.trials.steering
        if record is None or not (record.state.final or record.number in steering.held):
            return False
        if not record.state.final:
            self._leave_rung(record.number, f"paused by {steering.held[record.number]} at its rung")
        return True

    def _leave_rung(self, number: int, reason: str) -> None:
        """Note that a trial waits for more than its rung. The rule promotes it once, so it is given again only as one
        that was interrupted."""
        record = self._ledger.trials.get(number)
        if record is not None and record.state is TrialState.WAITING:
            self._end(number, TrialState.INTERRUPTED, reason)

    def _start(self, proposal: Proposal) -> TrialConfig:
        """The recipe is on the disk before a worker asks for it."""
        number, recipe, baseline = proposal.number, proposal.recipe, proposal.baseline
        source = find_training(self._ledger, number, recipe)
        self._ledger.start_trial(
            number, recipe, proposal.values, baseline, proposal.point, source, proposal.confirms, proposal.enqueued
        )
        if source is not None:
            share_training(self._ledger, source, number)
        else:
            place_weights(self._ledger, number)
        self._latest[number] = self._clock()
        self._update(number)
        which = self._ledger.study.score_tests
        is_finalist = baseline is not None or proposal.confirms is not None
        scores_tests = which == "all" or (which == "best" and is_finalist)
        return make_config(self._ledger, self._watch, number, recipe, scores_tests)

    def _start_scoring(self, number: int) -> TrialConfig:
        """Have the test sets of a trial that has ended scored."""
        self._ledger.append(TestsStarted(number=number))
        recipe = self._ledger.read_recipe(self._ledger.trials[number])
        return make_config(self._ledger, self._watch, number, recipe, score_tests=True)

    def _record_search(self, number: int) -> None:
        """Record what the search for a decoding tried, where there was one."""
        found = read_found(self._ledger.trial_folder(number))
        if found is not None and found.answers(self._ledger.read_recipe(self._ledger.trials[number])):
            self._record(search_event(number, found), number)

    def _exclude_nodes(self) -> None:
        """Record the nodes that no more trials are placed on, with one line for each."""
        for event in self._watch.take_exclusions():
            self._ledger.append(event)
            self._announce(describe_exclusion(event))
        self.stopped = self.stopped or self._watch.stopped

    def _end_failed(self, number: int, decision: Decision, failure: Failure) -> None:
        if decision.state.final:
            self._rule.remove(number)
        self._end(number, decision.state, decision.reason, decision=decision, failure=failure)

    def _end(
        self,
        number: int,
        state: TrialState,
        reason: str | None,
        metrics: dict[str, float] | None = None,
        decision: Decision | None = None,
        failure: Failure | None = None,
    ) -> None:
        lost_seconds = self._lost_seconds(number) if state is TrialState.INTERRUPTED else None
        event = make_end(number, state, reason, metrics or {}, decision, failure, lost_seconds)
        self._record(event, number)
        if state in (TrialState.COMPLETE, TrialState.PRUNED):  # one that failed may be reopened
            tidy_trial(self._ledger, number)

    def _lost_seconds(self, number: int) -> float | None:
        """Training since a running trial's last report, which has to be done again."""
        latest = self._latest.get(number)
        is_running = self._ledger.trials[number].state is TrialState.RUNNING  # one at its rung loses nothing
        return round(self._clock() - latest, 3) if is_running and latest is not None else None

    def _record(self, event: AnyEvent, number: int) -> None:
        self._ledger.append(event)
        self._desk.settle(self._ledger.trials[number])
        self._update(number)

    def _update(self, number: int) -> None:
        for observer in self._observers:
            observer.update(self._ledger.trials[number])
