"""What one trial left: where it ran, its epochs, and the errors of its workers."""

from __future__ import annotations

from collections.abc import Iterator

from model.errors import UserError
from study.display.table import format_value
from study.ledger.events import EpochReport
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord

ERRORS = "error-*.txt"  # of each worker that raised one
SHOWN = ("dev/wer", "dev/ilm_perplexity", "train/loss")  # of each epoch


def describe_trial(ledger: Ledger, number: int) -> Iterator[str]:
    """The lines of a trial's log; a UserError where the study has no such trial."""
    if number not in ledger.trials:
        raise UserError(f"study '{ledger.study.name}' has no trial {number}; it has {len(ledger.trials)}, from 0 on")
    record = ledger.trials[number]
    values = ", ".join(f"{name} {format_value(value)}" for name, value in record.values.items())
    tried = record.baseline or values or "the base recipe"
    yield f"trial {number:04d} {record.state}{_describe_reason(record)}: {tried}"
    for epoch in record.epochs:
        yield _describe_epoch(epoch)
    folder = ledger.trial_folder(number)
    for file in sorted(folder.glob(ERRORS)):
        yield f"{file}:"
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines()


def _describe_reason(record: TrialRecord) -> str:
    return f" ({record.reason})" if record.reason else ""


def _describe_epoch(epoch: EpochReport) -> str:
    figures = ", ".join(f"{name} {epoch.metrics[name]:.2f}" for name in SHOWN if name in epoch.metrics)
    return f"epoch {epoch.epoch}, step {epoch.step}, on {epoch.node or '?'} ({epoch.device or '?'}): {figures}"
