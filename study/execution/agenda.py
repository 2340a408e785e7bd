"""Which trial is next, and what follows when one fails.

What a trial did is read from the study's fold; the agenda itself knows only what no event records: when a retry is due,
and which error the trials that ended last had in common.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from study.config.run_settings import FailureSettings
from study.execution.decisions import Action, Decision, decide, is_same_error
from study.ledger.events import FinalistsChosen
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.search.proposal import InfeasiblePoint, Proposal
from study.workers.failure import Failure

LONGEST_DELAY = 30.0  # seconds between two tries of a trial


class Proposals(Protocol):
    """Where new trials come from."""

    def propose(self, trials: Trials) -> Proposal | InfeasiblePoint | None: ...
    def count_remaining(self, trials: Trials) -> int: ...
    def confirm(self, trials: Trials) -> Proposal | FinalistsChosen | None: ...
    def count_confirmations(self, trials: Trials) -> int: ...


class Rungs(Protocol):
    """Which of the paused trials continues: part of `study.early_stopping.rule.Rule`."""

    def promote_next(self, closed: bool = False) -> int | None: ...


class Agenda:
    """Interrupted trials come first, then promoted ones, then new ones; when the search is over, trainings that confirm
    its finalists. `clock` gives seconds."""

    def __init__(
        self,
        trials: Trials,
        proposals: Proposals,
        restore: Callable[[TrialRecord], Proposal],
        rungs: Rungs,
        settings: FailureSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`restore` makes the proposal of a trial that continues."""
        self._trials, self._proposals, self._restore = trials, proposals, restore
        self._settings, self._rungs, self._clock = settings, rungs, clock
        self._due: dict[int, float] = {}  # when a retried trial may start
        self._errors: list[str] = []  # of the trials that ended last, as long as they failed alike

    def next(self) -> Proposal | InfeasiblePoint | FinalistsChosen | None:
        """What to start or to record now, before anything else is asked; None when there is nothing, or nothing yet."""
        number = self._next_interrupted()
        if number is None:
            number = self._promote(closed=False)
        if number is None:
            proposal = self._proposals.propose(self._trials)
            if proposal is not None:
                return proposal
            number = self._promote(closed=True) if self._is_searched() else None
        if number is not None:
            return self._restore(self._trials[number])
        return self._proposals.confirm(self._trials) if self._is_searched() else None

    def is_done(self) -> bool:
        """Whether `next` has no more trial to give but paused ones, now or later."""
        idle = not self._trials.running and not self._interrupted()
        return idle and self._is_searched() and self._proposals.count_confirmations(self._trials) == 0

    def _is_searched(self) -> bool:
        """Whether no trial of the search runs or will come, but paused ones."""
        running = [self._trials[number] for number in (*self._trials.running, *self._interrupted())]
        if any(record.confirms is None for record in running):
            return False
        return self._proposals.count_remaining(self._trials) == 0

    def never_promoted(self) -> list[int]:
        """The paused trials that nothing will promote any more, once all is done."""
        if not self.is_done():
            return []
        return [number for number, record in self._trials.items() if record.state is TrialState.WAITING]

    def note_success(self) -> None:
        """A trial came to its end, complete or pruned."""
        self._errors = []

    def handle_failure(self, number: int, failure: Failure, elsewhere: bool = False) -> Decision:
        """What follows from the failure of a running trial; a retried one is due again later, each time later.

        `elsewhere`: it can be tried again on another node.
        """
        alike = [reason for reason in self._errors if is_same_error(reason, failure.reason)]
        decision = decide(failure, self._trials[number].retries_here, len(alike), self._settings, elsewhere)
        if decision.action is Action.MOVE:
            self._due[number] = self._clock() + (LONGEST_DELAY if failure.lacks_room else 0.0)
        elif decision.action is Action.RETRY:
            self._due[number] = self._clock() + min(2.0 ** (decision.count - 1), LONGEST_DELAY)
        elif decision.state.final:
            self._errors = [*alike, failure.reason]
        return decision

    def _interrupted(self) -> list[int]:
        return [number for number, record in self._trials.items() if record.state is TrialState.INTERRUPTED]

    def _next_interrupted(self) -> int | None:
        """The interrupted trial that has been due longest."""
        due = min(self._interrupted(), key=lambda number: self._due.get(number, 0.0), default=None)
        return due if due is not None and self._due.get(due, 0.0) <= self._clock() else None

    def _promote(self, closed: bool) -> int | None:
        return self._rungs.promote_next(closed)
