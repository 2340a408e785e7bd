"""What a study found: the best trial, the table of all, and recipes to go on with. Pure: reads the ledger only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.study_file import Objective, StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

FIGURES = {"dev/wer": "WER", "dev/ilm_perplexity": "ILM ppl", "out_of_domain/wer": "OOD WER"}
STYLES = {
    TrialState.WAITING: "blue",
    TrialState.RUNNING: "cyan",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "yellow",
    TrialState.FAILED: "red",
    TrialState.INFEASIBLE: "red",
    TrialState.INTERRUPTED: "magenta",
}


def best(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The complete trial with the lowest objective; of equals the first."""
    usable = [
        record
        for record in records
        if record.state is TrialState.COMPLETE and math.isfinite(record.metrics.get(objective.metric, math.nan))
    ]
    return min(usable, key=lambda record: (record.metrics[objective.metric], record.number), default=None)


def table(records: Iterable[TrialRecord], study: StudyFile) -> Table:
    """Every trial in a line; the best one is marked."""
    records = sorted(records, key=lambda record: record.number)
    winner = best(records, study.objective)
    metrics = [study.objective.metric, *(name for name in FIGURES if name != study.objective.metric)]
    metrics = [name for name in metrics if any(name in record.metrics for record in records)]
    searched = list(dict.fromkeys(name for record in records for name in record.values))
    heads = [FIGURES.get(name, name) for name in metrics]
    drawn = trial_table(study.name, ("trial", "name", "state", "epoch", *heads), searched)
    for record in records:
        state = f"[{STYLES[record.state]}]{record.state}[/]"
        cells = [_cell(record.metrics.get(name)) for name in metrics]
        cells += [folding(record.values.get(name)) for name in searched]
        drawn.add_row(
            f"{record.number:04d}{' *' if record is winner else ''}",
            _name(record),
            state,
            str(len(record.epochs)),
            *cells,
            style="bold" if record is winner else None,
        )
    return drawn


def trial_table(name: str, columns: Iterable[str], searched: Iterable[str]) -> Table:
    """An empty table of a study's trials, narrow enough for a terminal."""
    made = Table(title=f"study {name}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for column in columns:
        made.add_column(
            column.replace(" ", "\n"), justify="left" if column in ("name", "state") else "right", no_wrap=True
        )
    for each in searched:  # where it is narrow, these are folded
        made.add_column(label(each).replace(" ", "\n"), justify="right", overflow="fold")
    return made


def label(name: str) -> str:
    """A searched quantity's name, short: the last part, in words."""
    return name.rsplit(".", 1)[-1].replace("_", " ")


def shown(value: Any) -> str:
    """A searched value, short."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)


def folding(value: Any) -> str:
    """The same for a narrow column: a list is folded behind a comma, never within a number."""
    return shown(value).replace(",", ", ")


def export_recipe(ledger: Ledger, number: int | None = None) -> tuple[Recipe, int]:
    """The recipe of a trial, the best one by default, proved to be the one that was tried."""
    records = ledger.trials()
    if number is None:
        winner = best(records.values(), ledger.study.objective)
        if winner is None:
            raise UserError(
                f"study '{ledger.study.name}' has no complete trial yet, so none is best; "
                "go on with `decred-study run`, or name a trial"
            )
        number = winner.number
    if number not in records:
        known = f"0 to {max(records)}" if records else "none yet"
        raise UserError(f"study '{ledger.study.name}' has no trial {number}; its trials: {known}")
    return ledger.recipe_of(records[number]), number


def _name(record: TrialRecord) -> str:
    """What sets the trial apart, a line each: which baseline it is, where it came from, how often it went on."""
    retried = f"{record.retries} {'retry' if record.retries == 1 else 'retries'}" if record.retries else None
    origin = f"from {record.source}" if record.source else None
    return "\n".join(part for part in (record.baseline, origin, retried) if part)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}"
