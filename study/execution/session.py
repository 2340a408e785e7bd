"""One call of `run`: gives Tune the trials of the agenda, and records what becomes of them.

An event is written to the ledger first; the observers are updated afterwards.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from model.recipe.recipe import Recipe
from model.weights.found_decoding import read_found
from study.early_stopping.rule import Rule
from study.execution.agenda import Agenda
from study.execution.decisions import Action, Decision
from study.execution.decode import search_event
from study.execution.ended_trials import find_unscored, tidy_folder
from study.execution.node_watch import NodeWatch, list_worker_nodes, read_excluded_nodes
from study.execution.session_events import (
    describe_exclusion,
    make_epoch,
    make_infeasible,
    make_retry,
    make_tests,
    without_facts,
)
from study.execution.shared_training import find_training, must_wait, share_training
from study.ledger.events import (
    AnyEvent,
    FinalistsChosen,
    TrialContinued,
    TrialEnded,
    TrialPaused,
    TrialState,
)
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.search.proposal import InfeasiblePoint, Proposal
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report, Task, TrialConfig
from study.workers.storage import place_weights

NEVER_PROMOTED = "others of its rung were better"
PARTS_FILE = "batch-parts.json"  # in the study's folder


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
        self._held: Proposal | None = None  # it waits for a running trial with the same training
        self._scoring: int | None = None  # the best trial, while its test sets are scored
        self._scoring_failures = 0

    def next(self) -> TrialConfig | None:
        """The next trial, recorded as started; None while there is none.

        When all have ended, the best one comes again, for its test sets.
        """
        self._ledger.check_ownership()
        if exhaustion := self._watch.find_exhaustion():
            self.stopped = exhaustion
            return None
        proposal = self._next_proposal()
        if proposal is not None:
            return self._start(proposal)
        if self._held is None and self._scoring is None and self._agenda.is_done():
            number = find_unscored(self._ledger)
            return None if number is None else self._start_scoring(number)
        return None

    def is_done(self) -> bool:
        """Whether no more trial will come."""
        left = self._held is not None or self._scoring is not None or not self._agenda.is_done()
        return not left and find_unscored(self._ledger) is None

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
        if number == self._scoring:
            self._record_tests(number, metrics)
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

    def go_on(self, number: int, epoch: int, reason: str) -> None:
        """A trial was compared at a rung, and continues."""
        self._record(TrialContinued(number=number, epoch=epoch, reason=reason), number)

    def fail(self, number: int, failure: Failure) -> None:
        """A trial failed: retry it, end it, or stop the study. An OSError where the disk is full."""
        elsewhere = self._watch.tries_elsewhere(number, failure, self._ledger.trials[number].epoch)
        if number == self._scoring:
            self._fail_scoring(number, failure, elsewhere or failure.kind is FailureKind.PREEMPTED)
            return
        decision = self._agenda.handle_failure(number, failure, elsewhere)
        if decision.action in (Action.RETRY, Action.MOVE):
            self._record(make_retry(number, decision, failure, self._lost_seconds(number)), number)
        else:
            self._end_failed(number, decision, failure)
        self._exclude_nodes()
        if decision.action is Action.STOP and failure.kind is FailureKind.DISK_FULL:
            # Reported alike, whichever process met it first.
            raise OSError(errno.ENOSPC, failure.reason)
        if decision.action is Action.STOP:
            self.stopped = decision.reason
            if decision.setting:
                self.stopped = f"{decision.count} trials in a row failed with {decision.reason} ({decision.setting})"

    def end_never_promoted(self) -> None:
        """End the trials that wait at a rung and will never continue, once all other trials have ended."""
        for number in self._agenda.never_promoted():
            self._end(number, TrialState.PRUNED, NEVER_PROMOTED)

    def interrupt(self) -> None:
        """Record the trials that still run as interrupted; a later session continues them."""
        for number in self._ledger.trials.running:
            self._end(number, TrialState.INTERRUPTED, "the study was stopped")

    def _next_proposal(self) -> Proposal | None:
        """The next one that may start now. One whose training runs in another trial waits until that has ended."""
        proposal, self._held = self._held, None
        if proposal is None:
            while isinstance(given := self._agenda.next(), InfeasiblePoint | FinalistsChosen):
                if isinstance(given, InfeasiblePoint):
                    self._record(make_infeasible(given), given.number)
                else:
                    self._ledger.append(given)
            proposal = given
        if proposal is not None and must_wait(self._ledger, proposal.number, proposal.recipe):
            self._held = proposal
            return None
        return proposal

    def _start(self, proposal: Proposal) -> TrialConfig:
        """The recipe is on the disk before a worker asks for it."""
        number, recipe, baseline = proposal.number, proposal.recipe, proposal.baseline
        source = find_training(self._ledger, number, recipe)
        self._ledger.start_trial(number, recipe, proposal.values, baseline, proposal.point, source, proposal.confirms)
        if source is not None:
            share_training(self._ledger, source, number)
        else:
            place_weights(self._ledger, number)
        self._latest[number] = self._clock()
        self._update(number)
        which = self._ledger.study.score_tests
        is_finalist = baseline is not None or proposal.confirms is not None
        return self._make_config(number, recipe, which == "all" or (which == "best" and is_finalist))

    def _start_scoring(self, number: int) -> TrialConfig:
        """Have the test sets of a trial that has ended scored."""
        self._scoring = number
        self._latest[number] = self._clock()
        return self._make_config(number, self._ledger.read_recipe(self._ledger.trials[number]), score_tests=True)

    def _make_config(self, number: int, recipe: Recipe, score_tests: bool) -> TrialConfig:
        folder, parts_file = self._ledger.trial_folder(number), self._ledger.folder / PARTS_FILE
        sessions = self._ledger.log.files()
        task = Task(
            recipe.model_dump_json(),
            recipe.hash,
            str(folder),
            score_tests,
            str(parts_file),
            study_folder=str(self._ledger.folder),
            study_id=self._ledger.manifest.get("id"),
            session=sessions[-1].name if sessions else None,
        )
        record, avoided = self._ledger.trials[number], self._watch.find_avoided(number, and_draining=True)
        return TrialConfig(number, task, record.baseline is not None, record.confirms is not None, avoided)

    def _record_search(self, number: int) -> None:
        """Record what the search for a decoding tried, where there was one."""
        found = read_found(self._ledger.trial_folder(number))
        if found is not None and found.answers(self._ledger.read_recipe(self._ledger.trials[number])):
            self._record(search_event(number, found), number)

    def _record_tests(self, number: int, metrics: dict[str, float]) -> None:
        self._scoring = None
        record = self._ledger.trials[number]
        decoding = record.found_decoding or self._ledger.read_recipe(record).decoding.model_dump(mode="json")
        self._record(make_tests(record, decoding, metrics), number)

    def _fail_scoring(self, number: int, failure: Failure, elsewhere: bool) -> None:
        """Try again where the workers were lost, or on another node; otherwise the study stops, with all its trials
        ended."""
        self._scoring = None
        if elsewhere:
            return
        self._scoring_failures += 1
        retries = self._ledger.study.failures.retries
        if failure.kind not in (FailureKind.LOST, FailureKind.START) or self._scoring_failures > retries:
            self.stopped = f"the test sets of the best trial, {number:04d}, could not be scored ({failure.reason})"

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
        governed = decision is not None and decision.setting != ""
        event = TrialEnded(
            number=number,
            state=state,
            reason=reason,
            metrics=metrics or {},
            count=decision.count if decision and governed else None,
            setting=decision.setting if decision and governed else None,
            lost_seconds=self._lost_seconds(number) if state is TrialState.INTERRUPTED else None,
            node=failure.node if failure else None,
            node_id=failure.node_id if failure else None,
        )
        self._record(event, number)
        if state in (TrialState.COMPLETE, TrialState.PRUNED):  # one that failed may be reopened
            tidy_folder(self._ledger.trial_folder(number))

    def _lost_seconds(self, number: int) -> float | None:
        """Training since the trial's last report, which has to be done again."""
        latest = self._latest.get(number)
        return None if latest is None else round(self._clock() - latest, 3)

    def _record(self, event: AnyEvent, number: int) -> None:
        self._ledger.append(event)
        self._update(number)

    def _update(self, number: int) -> None:
        for observer in self._observers:
            observer.update(self._ledger.trials[number])
