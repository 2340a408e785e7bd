"""Replayed strategies, as a table and as lines that say what it shows."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from study.replay.comparison import SHARES, Comparison, Interval, Outcome


def make_tables(comparison: Comparison) -> tuple[Table, Table]:
    """What each strategy spends and when it comes to the target; and its regret at equal compute."""
    spent = _start_table("strategy", "stopped", "compute", "to target", "times less")
    regrets = _start_table("regret after compute", *(f"{share:.0%}" for share in SHARES))
    for outcome in comparison.outcomes:
        spent.add_row(outcome.strategy, *_format(outcome))
        means = (f"{regret.mean:.1f} {_bracket(regret.interval, '.1f')}" for regret in outcome.regrets)
        regrets.add_row(outcome.strategy, *means)
    return spent, regrets


def describe(comparison: Comparison) -> list[str]:
    """What was replayed, and how the tables are read."""
    compared, first = comparison, comparison.outcomes[0].strategy
    return [
        f"{compared.configurations} configurations with {compared.trainings} trainings; {compared.seeds} replays of "
        f"each strategy, {compared.workers} trials at a time",
        f"compute: worker seconds with start-up, final decoding and its search; 100% is what {first} spends "
        f"({compared.compute / 3600:.1f} hours)",
        f"regret: {compared.metric} of the other seeds of the best configuration so far, less {compared.best:.2f}, the "
        f"best of the table; the target is a mean regret of {compared.target:.2f}. Intervals of 95 %",
    ]


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All figures; null where the target is never reached."""
    content: dict[str, Any] = _finite(asdict(comparison))
    return content


def _start_table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _format(outcome: Outcome) -> list[str]:
    to_target, speedup = "never", "-"
    if math.isfinite(outcome.to_target):
        to_target = f"{outcome.to_target:.0%} {_bracket(outcome.to_target_interval, '.0%')}"
        speedup = f"{outcome.speedup:.1f} {_bracket(outcome.speedup_interval, '.1f')}"
    return [f"{outcome.pruned:.0%}", f"{outcome.compute:.0%}", to_target, speedup]


def _bracket(interval: Interval, form: str) -> str:
    low, high = (f"{end:{form}}" if math.isfinite(end) else "never" for end in interval)
    return f"\\[{low}, {high}]"


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
