"""The table of all trials, from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.table import Table

from study.config.study_file import StudyFile
from study.ledger.best import PARAMETERS, find_best, rank_trials
from study.ledger.records import TrialRecord, TrialState

FIGURES = {
    "dev/wer": "WER",
    "dev/wer_final": "final WER",
    "dev/ilm_perplexity": "ILM ppl",
    "out_of_domain/wer": "OOD WER",
}
TITLES = FIGURES | {"dev/rtf": "RTF", "dev/rtf_final": "final RTF"}
STYLES = {
    TrialState.WAITING: "blue",
    TrialState.RUNNING: "cyan",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "yellow",
    TrialState.FAILED: "red",
    TrialState.INFEASIBLE: "red",
    TrialState.INTERRUPTED: "magenta",
}


def make_table(records: Iterable[TrialRecord], study: StudyFile, shown: Sequence[TrialRecord] | None = None) -> Table:
    """A table with a line for every trial, or for those that are `shown`, in their order; the best one is marked."""
    records = sorted(records, key=lambda record: record.number)
    ranking, best = rank_trials(records, study.objective), find_best(records, study.objective)
    objective = study.objective
    second = [objective.second, f"{objective.second}_final"] if objective.second is not None else []
    metrics = list(dict.fromkeys([objective.metric, *second, *FIGURES]))
    metrics = [name for name in metrics if any(name in record.metrics for record in records)]
    searched = list_searched_quantities(records)
    headings = [TITLES.get(name, name) for name in metrics]
    table = make_empty_table(study.name, ("trial", "name", "state", "epoch", *headings), searched)
    if ranking.stage is not None and ranking.metric in metrics:
        table.caption = (
            f"{FIGURES.get(ranking.metric, ranking.metric)}: by the best decoding until the stage '{ranking.stage}' of "
            "its search, which all complete trials reached"
        )
    for record in records if shown is None else shown:
        figures = dict(record.metrics)
        if record.number in ranking.figures:
            figures = figures | {ranking.metric: ranking.figures[record.number]}
        cells = [format_metric(name, figures.get(name)) for name in metrics]
        cells += [format_folding(record.values.get(name)) for name in searched]
        table.add_row(
            f"{record.number:04d}{' *' if record is best else ''}",
            _format_label(record),
            f"[{STYLES[record.state]}]{record.state}[/]",
            str(len(record.epochs)),
            *cells,
            style="bold" if record is best else None,
        )
    return table


def list_searched_quantities(records: Iterable[TrialRecord]) -> list[str]:
    """The quantities that any trial has a value of, in the order of their first appearance."""
    return list(dict.fromkeys(name for record in records for name in record.values))


def make_empty_table(name: str, columns: Iterable[str], searched: Iterable[str]) -> Table:
    """A table of a study's trials without rows, narrow enough for a terminal."""
    table = Table(
        title=f"study {name}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    for column in columns:
        justify: Any = "left" if column in ("name", "state") else "right"
        table.add_column(column.replace(" ", "\n"), justify=justify, no_wrap=True)
    for quantity in searched:  # folded where the terminal is narrow
        table.add_column(label_quantity(quantity).replace(" ", "\n"), justify="right", overflow="fold")
    return table


def label_quantity(name: str) -> str:
    """The last part of a searched quantity's name, with spaces."""
    return name.rsplit(".", 1)[-1].replace("_", " ")


def format_value(value: Any) -> str:
    """A searched value in a few characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)


def format_folding(value: Any) -> str:
    """The same for a narrow column: a list is folded after a comma, never within a number."""
    return format_value(value).replace(",", ", ")


def _format_label(record: TrialRecord) -> str:
    """The trial's baseline or the finalist that it confirms, the study that it was imported from, that a person
    enqueued it, its number of retries; a line for each that it has."""
    retries = f"{record.retries} {'retry' if record.retries == 1 else 'retries'}" if record.retries else None
    origin = f"from {record.source}" if record.source else None
    confirms = f"confirms {record.confirms:04d}" if record.confirms is not None else None
    enqueued = "enqueued" if record.enqueued_by is not None else None
    return "\n".join(part for part in (record.baseline, confirms, origin, enqueued, retries) if part)


def format_metric(name: str, value: float | None) -> str:
    """A figure with the digits that matter: real-time factors are small, numbers of parameters large."""
    if value is None:
        return "-"
    if name == PARAMETERS:
        return f"{value:,.0f}"
    return f"{value:.4f}" if name.endswith(("/rtf", "/rtf_final")) else f"{value:.2f}"
