"""What a person sees while a study runs: one live table on a terminal, else one plain line an event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from study.display.table import FIGURES, STYLES, empty_table, format_folding, format_value, searched_quantities
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
    ) -> None:
        """`records` are the trials of earlier sessions."""
        self._records = dict(records)
        self._console, self._title = console, title
        self._trials_to_run, self._concurrency, self._clock = trials_to_run, concurrency, clock
        self._began: dict[int, float] = {}  # of each running trial
        self._durations: list[float] = []  # seconds of every trial that ended in this session

    def update(self, record: TrialRecord) -> None:
        """Take a trial's new record in, and print what changed where there is no terminal."""
        number, before = record.number, self._records.get(record.number)
        self._records[number] = record
        if record.state is TrialState.RUNNING:
            if number not in self._began:
                self._began[number] = self._clock()
                values = ", ".join(f"{name} {format_value(value)}" for name, value in record.values.items())
                self._print(number, "started" if before is None else "continues", record.baseline or values)
            else:
                self._print_epoch(record)
            return
        began = self._began.pop(number, None)
        if record.state is TrialState.INFEASIBLE and began is None:
            self._trials_to_run -= 1
        elif began is not None and record.state.final:
            self._durations.append(self._clock() - began)
        self._print_end(record)

    def seconds_left(self) -> float | None:
        """From the trials of this session so far; None before the first one has reported anything."""
        now, ended = self._clock(), len(self._durations)
        mean = sum(self._durations) / ended if ended else self._slowest_pace(now)
        if mean is None:
            return None
        spent = sum(min(now - began, mean) for began in self._began.values())
        return max(0.0, (self._trials_to_run - ended) * mean - spent) / self._concurrency

    def render(self) -> RenderableType:
        """The table as it stands, with a footer."""
        records = self._records_that_fit()
        searched = searched_quantities(records)
        table = empty_table(self._title, ("trial", "name", "state", "epoch", *DEV_FIGURES), searched)
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
        return Group(table, self._footer())

    def _slowest_pace(self, now: float) -> float | None:
        """Seconds that a running trial takes in all, judged by the slowest; None before a first epoch."""
        paces = [
            (now - began) / record.epoch * (record.planned_epochs or record.epoch)
            for number, began in self._began.items()
            if (record := self._records[number]).epoch
        ]
        return max(paces, default=None)

    def _records_that_fit(self) -> list[TrialRecord]:
        """The newest trials and those that run; what a screen cuts off is its end, where the running ones are."""
        records = [self._records[number] for number in sorted(self._records)]
        surplus = max(0, len(records) - max(FEWEST_ROWS, self._console.height - LINES_AROUND))
        hidden = {record.number for record in [record for record in records if record.state.final][:surplus]}
        return [record for record in records if record.number not in hidden]

    def _footer(self) -> Text:
        left = self.seconds_left()
        waiting = max(0, self._trials_to_run - len(self._durations) - len(self._began))
        parts = [f"{len(self._began)} running", f"{waiting} waiting"]
        known = "time left: known after the first epoch" if left is None else f"about {format_duration(left)} left"
        return Text("  ".join([*parts, known, "Ctrl-C stops; the same command goes on"]), style="dim")

    def _print_epoch(self, record: TrialRecord) -> None:
        metrics = record.metrics
        figures = [f"{title} {metrics[name]:.2f}" for title, name in DEV_FIGURES.items() if name in metrics]
        self._print(record.number, f"epoch {record.epoch}/{record.planned_epochs}", ", ".join(figures))

    def _print_end(self, record: TrialRecord) -> None:
        left = self.seconds_left() if record.state.final else None
        parts = [record.reason, left and f"{format_duration(left)} left"]
        self._print(record.number, str(record.state), "; ".join(part for part in parts if part))

    def _print(self, number: int, what: str, more: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"trial {number:04d} {what}" + (f": {escape(more)}" if more else ""), soft_wrap=True)


@contextlib.contextmanager
def show_live(board: Board, console: Console) -> Iterator[None]:
    """The board, redrawn while the block runs; nothing is drawn where there is no terminal."""
    if not console.is_terminal:
        yield
        return
    with Live(console=console, get_renderable=board.render, refresh_per_second=REDRAWS_PER_SECOND, transient=True):
        yield


def make_console() -> Console:
    """Standard output; wide where it is no terminal, because a file has no edge to keep within."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def format_duration(seconds: float) -> str:
    """1:05 h, 12 min or 40 s."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
