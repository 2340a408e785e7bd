"""When a trial is worth a message: it failed as none did before, or it is better than all before it, within the limits
of the objective.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from study.config.study_file import Objective
from study.ledger.best import list_broken
from study.ledger.records import TrialRecord, TrialState
from study.notifications.message import Happening

_NUMBERS = re.compile(r"\d+(\.\d+)?")
_MOST_VALUES = 6  # searched quantities in a line


class OccasionWatch:
    """Follows a study's trials. The cost of a record does not grow with their number."""

    def __init__(self, records: Iterable[TrialRecord], objective: Objective) -> None:
        """`records` are those of earlier sessions, which get no message again."""
        self._objective = objective
        self._reasons: set[str] = set()
        self._best: tuple[float, int] | None = None
        for record in records:
            self.see(record)

    def see(self, record: TrialRecord) -> Happening | None:
        """What a trial's new record is worth a message for, if anything."""
        if record.state is TrialState.FAILED:
            return self._see_failure(record)
        if record.state is TrialState.COMPLETE and record.confirms is None:
            return self._see_complete(record)
        return None

    def _see_failure(self, record: TrialRecord) -> Happening | None:
        reason = record.reason or "no reason is known"
        alike = _NUMBERS.sub("#", reason)  # addresses, steps and times differ where the fault is the same
        if alike in self._reasons:
            return None
        self._reasons.add(alike)
        return Happening("failure", f"trial {record.number:04d} failed: {reason}", record.number)

    def _see_complete(self, record: TrialRecord) -> Happening | None:
        """By the objective as validation has it: final figures are of searches that may differ in length."""
        metric = self._objective.metric
        figure = record.metrics.get(metric, math.nan)
        before = self._best
        if not math.isfinite(figure) or (before is not None and figure >= before[0]):
            return None
        if list_broken(record, self._objective):  # it is never the best, and a figure that it lacks may come later
            return None
        self._best = (figure, record.number)
        if before is None:
            return None
        text = (
            f"trial {record.number:04d} is the best so far: {metric} {figure:.2f}, "
            f"{before[0]:.2f} in trial {before[1]:04d} before"
        )
        return Happening("best", text + _describe_values(record), record.number)


def describe_end(best: TrialRecord | None, objective: Objective) -> str:
    """How a study ended, in a line."""
    if best is None:
        return "it has ended, and no trial completed"
    figures = [name for name in (f"{objective.metric}_final", objective.metric) if name in best.metrics]
    words = f": {figures[0]} {best.metrics[figures[0]]:.2f}" if figures else ""
    return f"it has ended; trial {best.number:04d} is the best{words}{_describe_values(best)}"


def describe_stop(reason: str | None) -> str:
    """How a study was stopped, in a line; no reason is known where a person or its machine stopped it."""
    return "it was stopped" if reason is None else f"it has stopped: {reason}"


def _describe_values(record: TrialRecord) -> str:
    if record.baseline is not None:
        return f" ({record.baseline})"
    values = list(record.values.items())
    parts = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values]
    return f" ({', '.join(parts[:_MOST_VALUES])}{', ...' if len(parts) > _MOST_VALUES else ''})" if parts else ""
