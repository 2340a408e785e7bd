"""Which trials the table shows, and in which order: all, the first ones by a column, or as many as a terminal holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import UserError
from model.strict import unknown_name
from study.config.study_file import StudyFile
from study.display.table import FIGURES, label_quantity
from study.ledger.best import rank_trials
from study.ledger.records import TrialRecord, TrialState

BEST_SHOWN = 5  # where there is no room for all
_STATES = tuple(TrialState)
_LAST = (1, 0, 0.0, "")  # the place of a trial without a value
Key = Callable[[TrialRecord], Any]


@dataclass(frozen=True)
class Rows:
    """What was asked for: the column to sort by, the number of first rows, and the most rows that there is room for."""

    sort: str | None = None  # None: by number, or with `top` by rank
    top: int | None = None
    room: int | None = None  # None: as many as there are

    def choose(self, records: Collection[TrialRecord], study: StudyFile) -> list[TrialRecord]:
        """The records of the rows; a UserError where no trial has such a column."""
        if self.sort is not None:
            ordered = sorted(records, key=_find_key(self.sort, records, study))
        elif self.top is not None:
            ordered = sorted(records, key=_rank_key(records, study))
        else:
            ordered = sorted(records, key=lambda record: record.number)
            return ordered if self.room is None else _choose_interesting(ordered, study, self.room)
        most = min(len(ordered) if limit is None else limit for limit in (self.top, self.room))
        return ordered[:most]


def describe_left_out(shown: int, total: int, rows: Rows) -> str | None:
    """A line on rows that are not shown; None where all are."""
    if shown >= total:
        return None
    if rows.sort is not None:
        which = f"the first by {rows.sort}"
    else:
        which = "those that run or wait, the best and the newest" if rows.top is None else "the best"
    more = "" if rows.top is not None and shown >= rows.top else "; --all shows all of them"
    return f"{shown} of {total} trials are shown, {which}{more}"


def _choose_interesting(ordered: Sequence[TrialRecord], study: StudyFile, room: int) -> list[TrialRecord]:
    """Those that are not at their end, the best, and the newest, by number."""
    if len(ordered) <= room:
        return list(ordered)
    ranked = sorted(rank_trials(ordered, study.objective).figures.items(), key=lambda item: (item[1], item[0]))
    best = [number for number, _ in ranked[: min(BEST_SHOWN, room)]]
    newest = [record.number for record in reversed(ordered)]
    live = [record.number for record in reversed(ordered) if not record.state.final]
    chosen = set(list(dict.fromkeys([*best, *live, *newest]))[:room])
    return [record for record in ordered if record.number in chosen]


def _rank_key(records: Collection[TrialRecord], study: StudyFile) -> Key:
    figures = rank_trials(records, study.objective).figures
    return lambda record: (figures.get(record.number, math.inf), record.number)


def _find_key(column: str, records: Collection[TrialRecord], study: StudyFile) -> Key:
    """What orders the trials by a column: the lowest value first, the most epochs first, and last those without one."""
    if column == "number":
        return lambda record: record.number
    if column == "state":
        return lambda record: (_STATES.index(record.state), record.number)
    if column == "epoch":
        return lambda record: (-record.epoch, record.number)
    metrics = {name for record in records for name in record.metrics}
    quantities = {name for record in records for name in record.values}
    if (metric := _find_name(column, metrics, lambda name: FIGURES.get(name, name))) is not None:
        ranking = rank_trials(records, study.objective)
        figures = ranking.figures if metric == ranking.metric else {}
        return lambda record: (*_place(figures.get(record.number, record.metrics.get(metric))), record.number)
    if (quantity := _find_name(column, quantities, label_quantity)) is not None:
        return lambda record: (*_place(record.values.get(quantity)), record.number)
    known = ["number", "state", "epoch", *sorted(metrics | quantities)]
    raise UserError(f"--sort is '{column}', which no trial has; {unknown_name(column, known)}")


def _find_name(column: str, names: Collection[str], label: Callable[[str], str]) -> str | None:
    """The name that is given whole, or as the table's heading has it."""
    if column in names:
        return column
    wanted = column.lower().replace("_", " ")
    return next((name for name in sorted(names) if label(name).lower() == wanted), None)


def _place(value: Any) -> tuple[int, int, float, str]:
    """Numbers before texts before what is missing or not finite."""
    if isinstance(value, bool | int | float):
        return (0, 0, float(value), "") if math.isfinite(value) else _LAST
    return _LAST if value is None else (0, 1, 0.0, str(value))
