"""Shorthands for tests that write a study's events and read them."""

from __future__ import annotations

from typing import Any

from study.config.question import class_of
from study.ledger.events import TrialEnded, TrialEpoch, TrialStarted, TrialState
from study.ledger.ledger import Ledger
from study.search.proposal import Proposal


def start_event(proposal: Proposal, epochs: int | None = None) -> TrialStarted:
    """The start of a proposed trial, as a session records it."""
    return TrialStarted(
        number=proposal.number,
        recipe_hash=proposal.recipe.hash,
        recipe_class=class_of(proposal.recipe),
        values=proposal.values,
        point=proposal.point,
        baseline=proposal.baseline,
        confirms=proposal.confirms,
        epochs=epochs,
    )


def report_epoch(ledger: Ledger, number: int, epoch: int, metrics: dict[str, float], **fields: Any) -> None:
    """Record that a trial reported an epoch."""
    ledger.append(TrialEpoch(number=number, epoch=epoch, metrics=metrics, **fields))


def end_trial(
    ledger: Ledger, number: int, state: TrialState, reason: str | None = None, metrics: dict[str, float] | None = None
) -> None:
    """Record the end of a trial."""
    ledger.append(TrialEnded(number=number, state=state, reason=reason, metrics=metrics or {}))


def list_kinds(ledger: Ledger) -> list[str]:
    """The kinds of all events, in order."""
    return [event.kind for event in ledger.log.read()]
