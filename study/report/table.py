"""The table of all trials as a CSV file: states, searched values and all metrics."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from model.strict import write_atomically
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord

FIELDS = (
    "number",
    "state",
    "class",
    "baseline",
    "confirms",
    "source",
    "epochs",
    "planned_epochs",
    "started",
    "ended",
    "retries",
    "lost_seconds",
    "recipe_hash",
    "reason",
)


def format_trials_table(ledger: Ledger) -> str:
    """A line a trial: what it is, `values/NAME` for each searched quantity, then every metric by its own name.

    Times are Unix seconds. A metric that a trial does not have, or that is not finite, is empty.
    """
    records = list(ledger.trials.values())
    values = list(dict.fromkeys(name for record in records for name in record.values))
    metrics = sorted({name for record in records for name in record.metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIELDS, *(f"values/{name}" for name in values), *metrics])
    for record in records:
        cells = [record.values.get(name, "") for name in values]
        figures = [record.metrics.get(name, math.nan) for name in metrics]
        writer.writerow([*_describe(record), *cells, *(value if math.isfinite(value) else "" for value in figures)])
    return text.getvalue()


def _describe(record: TrialRecord) -> list[Any]:
    """The cells of `FIELDS`; None is an empty cell."""
    return [
        record.number,
        record.state.value,
        record.recipe_class,
        record.baseline,
        record.confirms,
        record.source,
        record.epoch,
        record.planned_epochs,
        record.started,
        record.ended,
        record.retries,
        record.lost_seconds,
        record.recipe_hash,
        " ".join((record.reason or "").split()),
    ]


def write_trials_table(ledger: Ledger, path: Path) -> None:
    """Write the table into a file; a UserError where it cannot be written."""
    write_atomically(path, format_trials_table(ledger))
