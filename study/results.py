"""What a study found: the best trial, the table of all, and recipes to go on with. Pure: reads the ledger only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from model.errors import UserError
from model.recipe import Recipe
from model.recipe_files import read_recipe
from study.ledger import Ledger
from study.study_file import Objective, StudyFile
from study.trial_record import State, TrialRecord

_METRICS = ("dev/wer", "dev/ilm_perplexity", "out_of_domain/wer")
_STYLES = {State.COMPLETE: "green", State.RUNNING: "cyan", State.FAILED: "red", State.INFEASIBLE: "red"}


def best(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The complete trial with the lowest objective; of equals the first."""
    usable = [
        record
        for record in records
        if record.state is State.COMPLETE and math.isfinite(record.metrics.get(objective.metric, math.nan))
    ]
    return min(usable, key=lambda record: (record.metrics[objective.metric], record.number), default=None)


def table(records: Iterable[TrialRecord], study: StudyFile) -> Table:
    """Every trial in a line; the best one is marked."""
    records = sorted(records, key=lambda record: record.number)
    winner = best(records, study.objective)
    metrics = [study.objective.metric, *(name for name in _METRICS if name != study.objective.metric)]
    metrics = [name for name in metrics if any(name in record.metrics for record in records)]
    searched = list(dict.fromkeys(name for record in records for name in record.values))
    shown = Table(title=f"study {study.name}", title_justify="left")
    for name in ("trial", "name", "state", "epochs", *metrics, *searched):
        shown.add_column(name, justify="left" if name in ("name", "state") else "right")
    for record in records:
        state = f"[{_STYLES.get(record.state, 'yellow')}]{record.state}[/]"
        cells = [_cell(record.metrics.get(name)) for name in metrics]
        cells += [str(record.values.get(name, "-")) for name in searched]
        shown.add_row(
            f"{record.number:04d}{' *' if record is winner else ''}",
            record.baseline or "",
            state,
            str(len(record.epochs)),
            *cells,
            style="bold" if record is winner else None,
        )
    return shown


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
    path = ledger.trial_folder(number) / "recipe.yaml"
    recipe = read_recipe(path)
    if recipe.hash != records[number].recipe_hash:
        raise UserError(
            f"{path} has hash {recipe.hash}, but trial {number} ran {records[number].recipe_hash}; "
            "the file was changed after the trial: restore it"
        )
    return recipe, number


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}"
