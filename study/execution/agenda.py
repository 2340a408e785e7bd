"""Which trial is next, and what follows when one fails.

What a trial did is read from the study's fold; the agenda itself knows only what no event records: when a retry is due,
which error the trials that ended last had in common, and which paused trials the budget has kept from continuing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol

from study.config.run_settings import FailureSettings
from study.execution.budget_plan import Budget, Unlimited
from study.execution.decisions import Action, Decision, decide, is_same_error
from study.ledger.budget_events import CONFIRMATION, SEARCH, BudgetReached
from study.ledger.events import FinalistsChosen
from study.ledger.open_parts import part_of
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.search.proposal import InfeasiblePoint, Proposal
from study.workers.failure import Failure

LONGEST_DELAY = 30.0  # seconds between two tries of a trial


class Proposals(Protocol):
    """Where new trials come from."""

    def propose(self, trials: Trials, without: Collection[str] = ()) -> Proposal | InfeasiblePoint | None: ...
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
        budget: Budget | None = None,
        has_room: Callable[[int], bool] = lambda number: True,
    ) -> None:
        """`restore` makes the proposal of a trial that continues. `has_room` says whether one that failed on some nodes
        has room on others now; where it has none, what may start anywhere goes first."""
        self._budget, self._has_room = budget or Unlimited(), has_room
        self._refused: int | None = None  # how many events there were, as the budget had no room for a proposal
        self._trials, self._proposals, self._restore = trials, proposals, restore
        self._settings, self._rungs, self._clock = settings, rungs, clock
        self._due: dict[int, float] = {}  # when a retried trial may start
        self._errors: list[str] = []  # of the trials that ended last, as long as they failed alike
        # Trials that their rung has promoted while the budget had no room for them, and the epoch they paused after.
        self._promoted: dict[int, int | None] = {}

    def next(self) -> Proposal | InfeasiblePoint | FinalistsChosen | BudgetReached | None:
        """What to start or to record now, before anything else is asked; None when there is nothing, or nothing yet."""
        given = self._next_of_search()
        if given is None and self._lacks_room() and self._budget.release_reserve():
            self._refused = None
            # What is nearest to its end comes first: the finalists that are missing may be among these.
            number = self._promote(closed=True)
            given = self._next_of_search() if number is None else self._restore(self._trials[number])
        return given or self._close_search() or (self._confirm() if self._is_searched() else None)

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

    def list_held(self) -> list[int]:
        """The trials that people have paused, where nothing runs or starts before one is resumed; else none."""
        interrupted, held = self._interrupted(), self._trials.steering.held
        if self._trials.running or self._proposals.count_remaining(self._trials):
            return []
        if self._is_searched() and self._proposals.count_confirmations(self._trials):
            return []
        return interrupted if all(number in held for number in interrupted) else []

    def never_promoted(self) -> list[int]:
        """The paused trials that nothing will promote any more, once all is done."""
        if not self.is_done() or self._budget.is_closed(SEARCH):  # with a larger budget they may still be promoted
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
        """The interrupted trials, and those that a person has promoted from a rung, but for those that wait for a
        larger budget."""
        promoted = self._trials.steering.promoted
        interrupted = [
            number
            for number, record in self._trials.items()
            if record.state is TrialState.INTERRUPTED or (record.state is TrialState.WAITING and number in promoted)
        ]
        return [number for number in interrupted if not self._budget.is_closed(part_of(self._trials[number]))]

    def _next_interrupted(self) -> int | None:
        """The interrupted trial that has been due longest, of those that the budget and the nodes have room for."""
        now, held = self._clock(), self._trials.steering.held
        due = [number for number in self._interrupted() if self._due.get(number, 0.0) <= now and number not in held]
        affordable = (number for number in sorted(due, key=lambda number: (self._due.get(number, 0.0), number)))
        return next((one for one in affordable if self._has_room(one) and self._budget.admits_again(one)), None)

    def _next_of_search(self) -> Proposal | InfeasiblePoint | None:
        """The next trial that continues, or the next new one of the search. When there is room for no new one, the
        paused trials are promoted as at the end of the search: those that are nearly at theirs may still have room."""
        number = self._next_interrupted()
        if number is None:
            number = self._promote(closed=False)
        if number is None:
            proposal = self._propose()
            if proposal is not None:
                return proposal
            if self._is_searched() or self._lacks_room():
                number = self._promote(closed=True)
        return None if number is None else self._restore(self._trials[number])

    def _promote(self, closed: bool) -> int | None:
        """The next paused trial that its rung promotes and that the budget has room for."""
        if self._budget.is_closed(SEARCH):
            return None
        for waiting in self._list_promoted():
            if self._budget.admits_again(waiting):
                return waiting
        while (number := self._rungs.promote_next(closed)) is not None:
            if self._budget.admits_again(number):
                return number
            self._promoted[number] = self._trials[number].paused_at
        return None

    def _list_promoted(self) -> list[int]:
        """The promoted trials that still wait for room in the budget."""
        records = ((self._trials[number], epoch) for number, epoch in self._promoted.items())
        return [one.number for one, epoch in records if (one.state, one.paused_at) == (TrialState.WAITING, epoch)]

    def _propose(self) -> Proposal | InfeasiblePoint | None:
        """The next proposal, where the budget has room for it; where it had none, not before anything has happened.

        An enqueued recipe that takes more than what is left lets others go first, and waits for a larger budget. One
        that only has no room beside what runs keeps its turn: smaller trials would take that room again and again.
        """
        if self._refused is not None and self._refused == self._trials.applied:
            return None
        proposal, self._refused, waiting = self._proposals.propose(self._trials), None, list[str]()
        while isinstance(proposal, Proposal) and not self._budget.admits(proposal):
            self._refused = self._trials.applied
            if proposal.enqueued is None or self._budget.has_room_alone(proposal):
                return None
            waiting.append(proposal.enqueued.id)
            proposal = self._proposals.propose(self._trials, waiting)
        if proposal is not None:
            self._refused = None
        return proposal

    def _close_search(self) -> BudgetReached | None:
        """The end of a search that the budget has no more room for; else None."""
        return self._budget.close(SEARCH) if self._lacks_room() else None

    def _lacks_room(self) -> bool:
        """Whether the search has more to do, and nothing of it runs because the budget has no room."""
        if self._budget.is_closed(SEARCH) or self._is_in_progress(SEARCH):
            return False
        held = self._trials.steering.held  # what people have paused is not for want of a budget
        ours = [number for number in self._interrupted() if part_of(self._trials[number]) == SEARCH]
        stopped = [number for number in ours if number not in held]
        return self._proposals.count_remaining(self._trials) > 0 or bool(stopped) or bool(self._list_promoted())

    def _confirm(self) -> Proposal | FinalistsChosen | BudgetReached | None:
        """The next step of the confirmation; where the budget has no room for it, or for the rest of one that was
        interrupted, and nothing of it is in progress, its end."""
        proposal = self._proposals.confirm(self._trials)
        if isinstance(proposal, FinalistsChosen) or (proposal is not None and self._budget.admits(proposal)):
            return proposal
        held = self._trials.steering.held
        stopped = [one for one in self._interrupted() if part_of(self._trials[one]) == CONFIRMATION and one not in held]
        if (proposal is None and not stopped) or self._is_in_progress(CONFIRMATION):
            return None
        return self._budget.close(CONFIRMATION)

    def _is_in_progress(self, part: str) -> bool:
        """Whether a trial of a part of the study runs, or was interrupted and will continue by itself."""
        if any(part_of(self._trials[number]) == part for number in self._trials.running):
            return True
        held = self._trials.steering.held
        ours = (one for one in self._interrupted() if part_of(self._trials[one]) == part and one not in held)
        return any(self._budget.admits_again(one) for one in ours)
