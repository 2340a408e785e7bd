"""The display of a running study: a live table on a terminal, else one plain line an event."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from study.display.pace import TrialTime
from study.display.table import (
    FIGURES,
    STYLES,
    format_folding,
    format_value,
    list_searched_quantities,
    make_empty_table,
)
from study.evidence.stuck import find_advice
from study.ledger.records import TrialRecord, TrialState

REDRAWS_PER_SECOND = 2
PLAIN_WIDTH = 160
DEV_FIGURES = {title: name for name, title in FIGURES.items() if name.startswith("dev/")}
FEWEST_ROWS, LINES_AROUND = 5, 8  # title, head of two lines, rule, footer


class Board:
    """Shows the trials of a study as `update` reports them. `clock` gives seconds."""

    def __init__(
        self,
        console: Console,
        title: str,
        records: Mapping[int, TrialRecord],
        trials_to_run: int,
        concurrency: int = 1,
        clock: Callable[[], float] = time.monotonic,
        describe_budget: Callable[[], Iterable[str]] = tuple,
        count_left: Callable[[], int] | None = None,
        find_limit: Callable[[int], float] = lambda concurrency: math.inf,
    ) -> None:
        """`records` are the trials of earlier sessions; `describe_budget` gives the footer's lines on it.

        `count_left` gives the trials that run or are to come, which people may change; without it there are
        `trials_to_run` in all. `find_limit` gives the seconds after which the budget ends so many trials at a time.
        """
        self._describe_budget, self._count_left, self._find_limit = describe_budget, count_left, find_limit
        self._records = dict(records)
        self._console, self._title = console, title
        self._trials_to_run, self._concurrency, self._clock = trials_to_run, concurrency, clock
        self._times: dict[int, TrialTime] = {}  # of each trial that ran in this session and has not ended
        self._advised: set[int] = set()  # trials whose CTC does not learn
        self._budget: tuple[str, ...] = ()  # the footer's lines on it
        self._until = math.inf  # when it is used up, by `clock`
        self._ended = 0  # trials that ran in this session and have ended
        self._durations: list[float] = []  # seconds that each of these takes from its first epoch on, where known
        self._waits_for: str | None = None  # what trials wait for that have no room
        self._waits_since = 0.0

    def update(self, record: TrialRecord) -> None:
        """Take a trial's new record; where there is no terminal, print what changed."""
        number, before = record.number, self._records.get(record.number)
        self._records[number] = record
        if record.state is TrialState.RUNNING:
            times = self._times.setdefault(number, TrialTime(record.epoch))
            if times.since is None:
                times.start(self._clock())
                values = ", ".join(f"{name} {format_value(value)}" for name, value in record.values.items())
                self._print(number, "started" if before is None else "continues", record.baseline or values)
            elif before is None or record.epochs is not before.epochs:  # or something else was recorded
                times.note_report(self._clock(), record.epoch)
                self._print_epoch(record)
            return
        if before is not None and before.state is record.state is TrialState.COMPLETE:
            self._print(number, "complete", "its test sets are scored")
            return
        self._stop_time(record)
        self._count_again()
        self._print_end(record)

    def show_capacity(self, concurrency: int, waits_for: str | None) -> None:
        """Take how many trials run at the same time, and what others wait for; None while none does.

        Where there is no terminal, a wait is printed when it is shown first and when it is over.
        """
        self._concurrency = concurrency
        self._count_again()
        before, self._waits_for = self._waits_for, waits_for
        if waits_for is not None and before is None:
            self._waits_since = self._clock()
            self._print_line(waits_for)
        elif waits_for is None and before is not None:
            self._print_line(f"no longer waiting, after {format_duration(self._clock() - self._waits_since)}")

    def estimate_seconds_left(self) -> float | None:
        """Estimated from the trials of this session so far; None before the first epoch."""
        running = self._list_running()
        mean = fmean(self._durations) if self._durations else _find_slowest_pace(running)
        if mean is None:
            return None
        now = self._clock()
        spent = sum(min(_measure_spent(times, record, mean, now), mean) for record, times in running)
        of_trials = max(0.0, (self._trials_to_run - self._ended) * mean - spent) / self._concurrency
        return min(of_trials, max(0.0, self._until - now))

    def _stop_time(self, record: TrialRecord) -> None:
        """Take in that a trial does not run, or runs no more."""
        times, now = self._times.get(record.number), self._clock()
        if times is not None:
            times.stop(now)
        if not record.state.final:
            return
        if times is not None:
            del self._times[record.number]
            self._ended += 1
            if (whole := times.measure_whole(now, record.epoch)) is not None:
                self._durations.append(whole)
        elif record.state is TrialState.INFEASIBLE:
            self._trials_to_run -= 1

    def _count_again(self) -> None:
        """Count the trials to come, and what the budget has left. Not while the table is drawn: that is another thread,
        and the study's records change meanwhile."""
        if self._count_left is not None:
            self._trials_to_run = self._ended + self._count_left()
        self._until = self._clock() + self._find_limit(self._concurrency)
        if self._console.is_terminal:
            self._budget = tuple(self._describe_budget())

    def render(self) -> RenderableType:
        """The table as it stands, with a footer."""
        records = self._choose_records()
        searched = list_searched_quantities(records)
        table = make_empty_table(self._title, ("trial", "name", "state", "epoch", *DEV_FIGURES), searched)
        for record in records:
            metrics = record.metrics
            table.add_row(
                f"{record.number:04d}",
                record.baseline or "",
                Text(str(record.state), style=STYLES[record.state]),
                f"{record.epoch}/{record.planned_epochs}" if record.planned_epochs else "-",
                *(f"{metrics[name]:.2f}" if name in metrics else "-" for name in DEV_FIGURES.values()),
                *(format_folding(record.values.get(name)) for name in searched),
            )
        budget = [Text(line, style="dim") for line in self._budget]
        return Group(table, *budget, self._make_footer())

    def _list_running(self) -> list[tuple[TrialRecord, TrialTime]]:
        """The trials that run. Of a copy, because the table is drawn in another thread than trials start and end in."""
        times = tuple(self._times.items())
        return [(self._records[number], one) for number, one in times if one.since is not None]

    def _choose_records(self) -> list[TrialRecord]:
        """All trials, but only as many of those that ended, the newest, as fit on the screen."""
        records = [self._records[number] for number in sorted(self._records)]
        surplus = max(0, len(records) - max(FEWEST_ROWS, self._console.height - LINES_AROUND))
        hidden = {record.number for record in [record for record in records if record.state.final][:surplus]}
        return [record for record in records if record.number not in hidden]

    def _make_footer(self) -> Text:
        left = self.estimate_seconds_left()
        running = len(self._list_running())
        waiting = max(0, self._trials_to_run - self._ended - running)
        parts = [f"{running} running", f"{waiting} waiting"]
        if self._waits_for is not None:
            parts.append(self._waits_for)
        time_left = "time left: known after the first epoch" if left is None else f"about {format_duration(left)} left"
        return Text("  ".join([*parts, time_left, "Ctrl-C stops; the same command continues"]), style="dim")

    def _print_epoch(self, record: TrialRecord) -> None:
        if record.number not in self._advised and (advice := find_advice(record)):
            self._advised.add(record.number)
            self._console.print(f"trial {record.number:04d}: {advice}", style="bold red", soft_wrap=True)
        metrics = record.metrics
        figures = [f"{title} {metrics[name]:.2f}" for title, name in DEV_FIGURES.items() if name in metrics]
        self._print(record.number, f"epoch {record.epoch}/{record.planned_epochs}", ", ".join(figures))

    def _print_end(self, record: TrialRecord) -> None:
        left = self.estimate_seconds_left() if record.state.final else None
        parts = [record.reason, left and f"{format_duration(left)} left"]
        self._print(record.number, str(record.state), "; ".join(part for part in parts if part))

    def _print(self, number: int, event: str, details: str) -> None:
        self._print_line(f"trial {number:04d} {event}" + (f": {escape(details)}" if details else ""))

    def _print_line(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, soft_wrap=True)


def _find_slowest_pace(running: Iterable[tuple[TrialRecord, TrialTime]]) -> float | None:
    """Seconds that the slowest running trial takes from start to end; None before a first epoch in this session."""
    paces = [
        seconds * (record.planned_epochs or record.epoch)
        for record, times in running
        if (seconds := times.find_epoch_seconds(record.epoch)) is not None
    ]
    return max(paces, default=None)


def _measure_spent(times: TrialTime, record: TrialRecord, mean: float, now: float) -> float:
    """What a running trial has done of the `mean` seconds that a trial takes, its earlier epochs included."""
    whole = times.measure_whole(now, record.epoch)
    if whole is None:  # its earlier epochs are known, but not yet what one of them takes
        return times.measure(now) + mean * times.epochs_before / (record.planned_epochs or record.epoch)
    return whole


@contextlib.contextmanager
def show_live(board: Board, console: Console) -> Iterator[None]:
    """The board, redrawn while the block runs; nothing is drawn where there is no terminal."""
    if not console.is_terminal:
        yield
        return
    with Live(console=console, get_renderable=board.render, refresh_per_second=REDRAWS_PER_SECOND, transient=True):
        yield


def make_console() -> Console:
    """Standard output, with a wide line where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def format_duration(seconds: float) -> str:
    """1:05 h, 12 min or 40 s."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
