"""The one place that hears what happens to trials, and writes it down: ledger, Optuna, screen, in this order.

The ledger comes first because it is the truth; whatever dies after it can be made again from it. MLflow follows the
ledger by itself, see `study.tracking.tracking`.
"""

from __future__ import annotations

from typing import Protocol

from study.execution.decisions import Decision
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.proposal import Proposal, Refused
from study.search.proposer import Proposer

FINAL_ONLY = ("test/", "in_domain/", "out_of_domain/")
NOT_METRICS = ("epoch", "finished")


class View(Protocol):
    """What a person sees of the study."""

    def started(self, proposal: Proposal) -> None: ...
    def epoch(self, number: int, epoch: int, metrics: dict[str, float]) -> None: ...
    def ended(self, number: int, state: TrialState, reason: str | None, metrics: dict[str, float]) -> None: ...
    def infeasible(self, refused: Refused) -> None: ...


class Follower(Protocol):
    """Whoever reads the ledger after every event, in its own time."""

    def wake(self) -> None: ...


class Recorder:
    """Listens to the trials of one session."""

    def __init__(self, ledger: Ledger, proposer: Proposer, tracking: Follower, view: View) -> None:
        self._ledger = ledger
        self._proposer = proposer
        self._tracking = tracking
        self._view = view
        self._running: set[int] = set()
        self._objective = ledger.study.objective.metric

    def ready(self) -> None:
        """A UserError where another process has taken the study: nothing may be proposed here any more."""
        self._ledger.guard()

    def started(self, proposal: Proposal) -> None:
        """The trial is about to start, or to go on; its recipe is on the disk before a worker asks for it."""
        known = proposal.values, proposal.baseline, proposal.point
        self._ledger.trial_started(proposal.number, proposal.recipe, *known)
        self._running.add(proposal.number)
        self._tracking.wake()
        self._view.started(proposal)

    def infeasible(self, refused: Refused) -> None:
        """A point that makes no recipe; the proposer tells Optuna."""
        self._ledger.trial_infeasible(refused.number, refused.values, refused.reason, refused.point)
        self._tracking.wake()
        self._view.infeasible(refused)

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """A rung's value is an intermediate one, whatever becomes of the trial."""
        epoch = int(metrics["epoch"])
        self._ledger.trial_epoch(number, epoch, _of_epoch(metrics))
        if self._objective in metrics:
            self._proposer.report(number, epoch, metrics[self._objective])
        self._tracking.wake()
        self._view.epoch(number, epoch, metrics)

    def paused(self, number: int, epoch: int, reason: str) -> None:
        """It waits at a rung; to Optuna it runs."""
        self._running.discard(number)
        self._ledger.trial_paused(number, epoch, reason)
        self._tracking.wake()
        self._view.ended(number, TrialState.WAITING, reason, {})

    def retried(self, number: int, decision: Decision) -> None:
        """It lost its workers and goes on; to Optuna it runs."""
        self._running.discard(number)
        self._ledger.trial_retried(number, decision.reason, decision.count, decision.setting)
        self._tracking.wake()
        reason = f"{decision.reason}; goes on for the {decision.count}. time ({decision.setting})"
        self._view.ended(number, TrialState.INTERRUPTED, reason, {})

    def ended(
        self,
        number: int,
        state: TrialState,
        reason: str | None,
        metrics: dict[str, float] | None = None,
        decision: Decision | None = None,
    ) -> None:
        """`metrics` are those of a last report, which only a complete trial has."""
        self._running.discard(number)
        metrics = metrics or {}
        governed = {"count": decision.count, "setting": decision.setting} if decision and decision.setting else {}
        self._ledger.trial_ended(number, state, reason, _final(metrics), **governed)
        self._proposer.tell(number, state, metrics.get(self._objective))
        self._tracking.wake()
        self._view.ended(number, state, reason, metrics)

    def interrupt(self) -> list[int]:
        """Trials that were still running will go on another time; their numbers."""
        numbers = sorted(self._running)
        for number in numbers:
            self.ended(number, TrialState.INTERRUPTED, "the study was stopped")
        return numbers


def settle(ledger: Ledger, proposer: Proposer) -> int:
    """Make Optuna's database a view of the ledger again: fill an empty one, and tell it of the ends that it missed
    because a crash came between. How many trials were filled in; a UserError when it is no view of this ledger."""
    objective, records = ledger.study.objective.metric, ledger.trials()
    filled = proposer.follow(records, ledger.recipe_of)
    for number, record in records.items():
        if record.state is TrialState.INFEASIBLE:  # else its trial, which has no recipe, would count as undecided
            proposer.tell(number, record.state)
    open_in_optuna = {proposal.number for proposal in proposer.interrupted()}
    for number in sorted(open_in_optuna & records.keys()):
        record = records[number]
        for epoch in record.epochs:
            if objective in epoch:
                proposer.report(number, int(epoch["epoch"]), epoch[objective])
        if record.state.final:
            proposer.tell(number, record.state, record.metrics.get(objective))
    return filled


def _of_epoch(metrics: dict[str, float]) -> dict[str, float]:
    return {
        name: value for name, value in metrics.items() if not name.startswith(FINAL_ONLY) and name not in NOT_METRICS
    }


def _final(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith(FINAL_ONLY)}
