"""Which trial is next, and what follows when one breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from study.config.study_file import FailureSettings
from study.execution.decisions import Action, Decision, decide, same_error
from study.ledger.records import TrialRecord, TrialState
from study.search.proposal import Proposal, Refused
from study.workers.failure import Failure

LONGEST_DELAY = 30.0  # seconds between two tries of a trial


class Proposals(Protocol):
    """New trials, and those that an earlier session left."""

    def propose(self, infeasible: Callable[[Refused], None], paused: Collection[int] = ()) -> Proposal | None: ...
    def interrupted(self) -> list[Proposal]: ...


class Rungs(Protocol):
    """Which of the paused trials continues: part of `study.early_stopping.verdict.Rule`."""

    def promote_next(self, closed: bool = False) -> int | None: ...
    def remove(self, number: int) -> None: ...


class Agenda:
    """Retried and interrupted trials come first, then promoted ones, then new ones. `clock` is seconds."""

    def __init__(
        self,
        proposals: Proposals,
        rungs: Rungs | None,
        settings: FailureSettings,
        records: Mapping[int, TrialRecord],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proposals, self._rungs, self._settings, self._clock = proposals, rungs, settings, clock
        self._retries = {number: record.retries for number, record in records.items()}
        waiting = {number for number, record in records.items() if record.state is TrialState.WAITING}
        left = proposals.interrupted()
        self._again = [(0.0, proposal) for proposal in left if proposal.number not in waiting]
        self._paused = {proposal.number: proposal for proposal in left if proposal.number in waiting}
        self._running: dict[int, Proposal] = {}
        self._errors: list[str] = []  # of the trials that ended last, as long as they all broke alike
        self._spent = False  # no new trial will come

    def next(self, infeasible: Callable[[Refused], None]) -> Proposal | None:
        """The trial to start now; None when there is none, or none yet."""
        proposal = self._due() or self._promoted(closed=False)
        if proposal is None and not self._spent:
            proposal = self._proposals.propose(infeasible, list(self._paused))
            self._spent = proposal is None
        if proposal is None and self._idle():
            proposal = self._promoted(closed=True)
        if proposal is not None:
            self._running[proposal.number] = proposal
        return proposal

    def done(self) -> bool:
        """Whether `next` has no more trial to give, now or later. Paused trials may be left; see `left_behind`."""
        return self._idle()

    def left_behind(self) -> list[int]:
        """The paused trials that nobody will promote any more, once all is done."""
        return sorted(self._paused) if self.done() else []

    def ended(self, number: int) -> None:
        """It came to its end, well or pruned."""
        self._leave(number)
        self._errors = []

    def paused(self, number: int) -> None:
        """It waits at a rung."""
        self._paused[number] = self._running.pop(number)

    def broke(self, number: int, failure: Failure) -> Decision:
        """What follows from the failure; a retried trial comes again by itself, later each time."""
        alike = [reason for reason in self._errors if same_error(reason, failure.reason)]
        decision = decide(failure, self._retries.get(number, 0), len(alike), self._settings)
        if decision.action is Action.RETRY:
            self._retries[number] = decision.count
            due = self._clock() + min(2.0 ** (decision.count - 1), LONGEST_DELAY)
            self._again.append((due, self._running.pop(number)))
            return decision
        self._leave(number, failed=decision.state.final)
        if decision.state.final:
            self._errors = [*alike, failure.reason]
        return decision

    def _leave(self, number: int, failed: bool = False) -> None:
        self._running.pop(number, None)
        if failed and self._rungs is not None:
            self._rungs.remove(number)

    def _due(self) -> Proposal | None:
        now = self._clock()
        for index, (due, proposal) in enumerate(self._again):
            if due <= now:
                del self._again[index]
                return proposal
        return None

    def _promoted(self, closed: bool) -> Proposal | None:
        number = self._rungs.promote_next(closed) if self._rungs is not None else None
        return None if number is None else self._paused.pop(number)

    def _idle(self) -> bool:
        return self._spent and not self._running and not self._again
