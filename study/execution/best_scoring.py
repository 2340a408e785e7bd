"""Scoring the best trial's test sets, once all trials have ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from study.execution.ended_trials import find_unscored
from study.execution.session_events import make_tests
from study.ledger.events import TrialDecoded
from study.ledger.ledger import Ledger
from study.workers.failure import Failure, FailureKind


class BestScoring:
    """Which trial is being scored, and what follows when that fails."""

    def __init__(self, ledger: Ledger) -> None:
        self.number: int | None = None  # of the trial, while it is being scored
        self._ledger = ledger
        self._failures = 0

    def is_done(self) -> bool:
        """Whether nothing is being scored, or is to be."""
        return self.number is None and find_unscored(self._ledger) is None

    def begin(self, has_room: Callable[[int], bool]) -> int | None:
        """The trial to score now; None where there is none, or where it does not have room on the nodes left to it."""
        if self.number is not None:
            return None
        number = find_unscored(self._ledger)
        self.number = number if number is not None and has_room(number) else None
        return self.number

    def complete(self, metrics: Mapping[str, float]) -> TrialDecoded:
        """The event of what was scored."""
        assert self.number is not None, "it has begun"
        record = self._ledger.trials[self.number]
        self.number = None
        decoding = record.found_decoding or self._ledger.read_recipe(record).decoding.model_dump(mode="json")
        return make_tests(record, decoding, metrics)

    def fail(self, failure: Failure, elsewhere: bool) -> str | None:
        """Why the study stops, with all its trials ended; None where it is tried again: after the workers were lost, or
        on another node."""
        number, self.number = self.number, None
        if elsewhere or failure.kind is FailureKind.PREEMPTED:
            return None
        self._failures += 1
        retries = self._ledger.study.failures.retries
        if failure.kind in (FailureKind.LOST, FailureKind.START) and self._failures <= retries:
            return None
        return f"the test sets of the best trial, {number:04d}, could not be scored ({failure.reason})"
