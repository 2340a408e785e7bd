"""Trials whose CTC does not learn, and what to change."""

from __future__ import annotations

from collections.abc import Iterable

from model.training.advice import advise
from study.ledger.records import TrialRecord


def find_advice(record: TrialRecord) -> str | None:
    """What to change in a trial whose CTC does not learn; None where it does, or where that cannot be said yet."""
    return advise(record.curve("train/loss_ctc"), record.curve("dev/ctc_wer"))


def describe_stuck(records: Iterable[TrialRecord]) -> list[str]:
    """A line for each advice, with the trials that it is for."""
    stuck: dict[str, list[str]] = {}
    for record in records:
        if advice := find_advice(record):
            stuck.setdefault(advice, []).append(f"{record.number:04d}")
    return [
        f"trial{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}: {advice}" for advice, numbers in stuck.items()
    ]
