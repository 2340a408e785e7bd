"""Shorthands for tests that write a study's events and read them."""

from __future__ import annotations

from typing import Any

from study.ledger.events import TrialEnded, TrialEpoch, TrialState
from study.ledger.ledger import Ledger


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
