"""What `status` prints: the table of trials, how well each rung ranks them, nodes that are excluded, and whether the
study runs now. `status_json` has the same for scripts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from study.display.board import make_console
from study.display.budget import describe_budget
from study.display.front import describe_front
from study.display.references import print_references
from study.display.rows import Rows, describe_left_out
from study.display.steering import describe_steering
from study.display.study_state import find_time_of_use
from study.display.table import make_table
from study.display.verdict import print_verdict
from study.evidence.rank_correlation import describe_rungs
from study.evidence.stuck import describe_stuck
from study.ledger.best import describe_broken
from study.ledger.lease import find_living_holder
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.ledger.trials import Trials


def print_status(
    ledger: Ledger, study: Path, console: Console | None = None, rows: Rows | None = None, now: float | None = None
) -> None:
    """Print the state of a study; `study` is the path that the user gave, for the command that continues it.

    `rows` chooses the trials of the table, by default all; everything else is of all trials. `now` is in Unix seconds.
    """
    console, records, rows = console or make_console(), ledger.trials.values(), rows or Rows()
    shown = rows.choose(records, ledger.study)
    console.print(make_table(records, ledger.study, shown))
    if line := describe_left_out(len(shown), len(records), rows):
        console.print(line, soft_wrap=True, highlight=False)
    for line in (*describe_rungs(records, ledger.study), *describe_stuck(records)):
        console.print(line, soft_wrap=True, highlight=False)
    holder = find_living_holder(ledger.folder)
    budget = describe_budget(ledger.study, ledger.trials, find_time_of_use(ledger.trials, holder, now))
    for line in (*describe_broken(records, ledger.study.objective), *budget):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for line in describe_front(records, ledger.study.objective, study):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    print_references(ledger, console)
    print_verdict(ledger, console)
    for line in (*describe_steering(ledger.trials), *describe_excluded(ledger.trials)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if any(record.state is TrialState.RUNNING for record in records) and holder is None:
        line = f"no process runs this study now, the last one died; continue it with: decred-study run {study}"
        console.print(line, soft_wrap=True, highlight=False)


def describe_excluded(trials: Trials, now: float | None = None) -> Iterator[str]:
    """A line for each node that no trials are placed on; those of a study that has ended are of no interest."""
    now = time.time() if now is None else now
    for event in () if trials.has_ended else trials.excluded:
        if event.until is None:
            yield f"node {event.node} is excluded until the next session: {event.reason}"
        elif event.until > now:
            until = datetime.fromtimestamp(event.until, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
            yield f"node {event.node} is excluded until {until}: {event.reason}"
