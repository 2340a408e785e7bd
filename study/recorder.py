"""The one place that hears what happens to trials, and writes it down: ledger, Optuna, screen, in this order.

The ledger comes first because it is the truth; whatever dies after it can be made again from it. MLflow is told what
stands in the ledger by a sender of its own, which is only woken here.
"""

from __future__ import annotations

from typing import Protocol

from study.ledger import Ledger
from study.optuna_adapter import Proposal, Proposer, Refused
from study.reports import reports_in
from study.trial_record import State

FINAL_ONLY = ("test/", "in_domain/", "out_of_domain/")
NOT_METRICS = ("epoch", "finished")


class View(Protocol):
    """What a person sees of the study."""

    def started(self, proposal: Proposal) -> None: ...
    def epoch(self, number: int, epoch: int, metrics: dict[str, float]) -> None: ...
    def ended(self, number: int, state: State, reason: str | None, metrics: dict[str, float]) -> None: ...
    def infeasible(self, refused: Refused) -> None: ...


class Tracking(Protocol):
    """Whoever follows the ledger."""

    def wake(self) -> None: ...


class Recorder:
    """Listens to the trials of one session."""

    def __init__(self, ledger: Ledger, proposer: Proposer, tracking: Tracking, view: View) -> None:
        self._ledger = ledger
        self._proposer = proposer
        self._tracking = tracking
        self._view = view
        self._running: dict[int, Proposal] = {}
        self._objective = ledger.study.objective.metric

    def proposed(self, proposal: Proposal) -> None:
        """The trial is about to start; its recipe is on the disk before a worker asks for it."""
        self._running[proposal.number] = proposal
        self._ledger.trial_started(proposal.number, proposal.recipe, proposal.values, proposal.baseline)
        self._tracking.wake()
        self._view.started(proposal)

    def infeasible(self, refused: Refused) -> None:
        """A point that makes no recipe; the proposer tells Optuna."""
        self._ledger.trial_infeasible(refused.number, refused.values, refused.reason)
        self._tracking.wake()
        self._view.infeasible(refused)

    def catch_up(self, number: int) -> None:
        """Epochs that ended while the study was being stopped: they are on the disk, and nobody heard of them."""
        record = self._ledger.trials().get(number)  # none where a crash came between Optuna's record and the ledger's
        heard = max((epoch["epoch"] for epoch in record.epochs), default=0) if record else 0
        for metrics in reports_in(self._ledger.trial_folder(number)):
            if metrics["epoch"] > heard and not metrics.get("finished"):
                self._record(number, metrics)

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        self._record(number, metrics)
        self._view.epoch(number, int(metrics["epoch"]), metrics)

    def _record(self, number: int, metrics: dict[str, float]) -> None:
        epoch, every_epoch = int(metrics["epoch"]), _of_epoch(metrics)
        self._ledger.trial_epoch(number, epoch, every_epoch)
        if self._objective in metrics:
            self._proposer.report(number, epoch, metrics[self._objective])
        self._tracking.wake()

    def ended(self, number: int, state: str, reason: str | None, metrics: dict[str, float]) -> None:
        told, final = State(state), _final(metrics)
        self._running.pop(number, None)
        self._ledger.trial_ended(number, told, reason, final)
        self._proposer.tell(number, told, metrics.get(self._objective))
        self._tracking.wake()
        self._view.ended(number, told, reason, metrics)

    def interrupt(self) -> list[int]:
        """Trials that were still running will go on another time; their numbers."""
        numbers = sorted(self._running)
        for number in numbers:
            self.ended(number, State.INTERRUPTED, "the study was stopped", {})
        return numbers


def settle(ledger: Ledger, proposer: Proposer) -> None:
    """Tell Optuna of trials whose end only the ledger knows, because a crash came between."""
    objective = ledger.study.objective.metric
    open_in_optuna = {proposal.number for proposal in proposer.interrupted()}
    for number, record in ledger.trials().items():
        if not record.state.final:
            continue
        if number in open_in_optuna:
            for epoch in record.epochs:
                if objective in epoch:
                    proposer.report(number, int(epoch["epoch"]), epoch[objective])
            proposer.tell(number, record.state, record.metrics.get(objective))


def _of_epoch(metrics: dict[str, float]) -> dict[str, float]:
    return {
        name: value for name, value in metrics.items() if not name.startswith(FINAL_ONLY) and name not in NOT_METRICS
    }


def _final(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith(FINAL_ONLY)}
