"""What a person sees while a study runs: one live table on a terminal, else one plain line an event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from study.display.table import FIGURES, STYLES, folding, shown, trial_table
from study.ledger.records import TrialRecord, TrialState
from study.search.proposal import Proposal, Refused

REDRAWS_PER_SECOND = 2
PLAIN_WIDTH = 160
DEV_FIGURES = {title: name for name, title in FIGURES.items() if name.startswith("dev/")}
FEWEST_ROWS, LINES_AROUND = 5, 8  # title, head of two lines, rule, footer


@dataclass
class Row:
    """One trial's line."""

    number: int
    name: str
    values: Mapping[str, Any]
    epochs: int  # how many the recipe asks for
    state: TrialState = TrialState.RUNNING
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


class Board:
    """The study's trials as they stand. `clock` is seconds, given by tests."""

    def __init__(
        self,
        console: Console,
        title: str,
        trials: int,
        concurrency: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows: dict[int, Row] = {}
        self._console = console
        self._title = title
        self._trials = trials  # to come in this session
        self._concurrency = concurrency
        self._clock = clock
        self._began: dict[int, float] = {}
        self._took: list[float] = []  # seconds of every trial that ended in this session

    def seen(self, record: TrialRecord, epochs: int) -> None:
        """A trial of an earlier session."""
        epoch = int(record.epochs[-1]["epoch"]) if record.epochs else 0
        self.rows[record.number] = Row(
            record.number, record.baseline or "", record.values, epochs, record.state, epoch, dict(record.metrics)
        )

    def started(self, proposal: Proposal) -> None:
        number, epochs = proposal.number, proposal.recipe.training.epochs
        before = self.rows.get(number)
        self.rows[number] = Row(number, proposal.baseline or "", proposal.values, epochs)
        if before is not None:
            self.rows[number].epoch, self.rows[number].metrics = before.epoch, before.metrics
        self._began[number] = self._clock()
        values = ", ".join(f"{name} {shown(value)}" for name, value in proposal.values.items())
        self._say(number, "goes on" if before is not None else "started", proposal.baseline or values)

    def epoch(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        row = self.rows[number]
        row.epoch, row.metrics = epoch, metrics
        figures = [f"{title} {metrics[name]:.2f}" for title, name in DEV_FIGURES.items() if name in metrics]
        self._say(number, f"epoch {epoch}/{row.epochs}", ", ".join(figures))

    def ended(self, number: int, state: TrialState, reason: str | None, metrics: dict[str, float]) -> None:
        row = self.rows[number]
        row.state, row.reason, row.metrics = state, reason, metrics or row.metrics
        began = self._began.pop(number, None)
        if began is not None and state.final:
            self._took.append(self._clock() - began)
        left = self.seconds_left() if state.final else None
        self._say(number, str(state), "; ".join(part for part in (reason, left and f"{duration(left)} left") if part))

    def infeasible(self, refused: Refused) -> None:
        """A trial that ends before it starts."""
        number, state = refused.number, TrialState.INFEASIBLE
        self.rows[number] = Row(number, "", refused.values, 0, state, reason=refused.reason)
        self._trials -= 1
        self._say(number, str(state), refused.reason)

    def seconds_left(self) -> float | None:
        """From the trials of this session so far; None before the first one has told anything."""
        now = self._clock()
        ended = len(self._took)
        mean = sum(self._took) / ended if ended else None
        if mean is None:
            paces = [
                (now - began) / row.epoch * row.epochs
                for number, began in self._began.items()
                if (row := self.rows[number]).epoch
            ]
            mean = max(paces) if paces else None
        if mean is None:
            return None
        spent = sum(min(now - began, mean) for began in self._began.values())
        return max(0.0, (self._trials - ended) * mean - spent) / self._concurrency

    def table(self) -> RenderableType:
        searched = list(dict.fromkeys(name for row in self.rows.values() for name in row.values))
        table = trial_table(self._title, ("trial", "name", "state", "epoch", *DEV_FIGURES), searched)
        for row in self._rows_that_fit():
            figures = [f"{row.metrics[name]:.2f}" if name in row.metrics else "-" for name in DEV_FIGURES.values()]
            table.add_row(
                f"{row.number:04d}",
                row.name,
                Text(str(row.state), style=STYLES[row.state]),
                f"{row.epoch}/{row.epochs}" if row.epochs else "-",
                *figures,
                *(folding(row.values.get(name)) for name in searched),
            )
        return Group(table, self._footer())

    def _rows_that_fit(self) -> list[Row]:
        """The newest trials and those that run; what a screen cuts off is its end, where the running ones are."""
        rows = sorted(self.rows.values(), key=lambda row: row.number)
        surplus = len(rows) - max(FEWEST_ROWS, self._console.height - LINES_AROUND)
        hidden = {row.number for row in [row for row in rows if row.state.final][: max(0, surplus)]}
        return [row for row in rows if row.number not in hidden]

    def _footer(self) -> Text:
        left, waiting = self.seconds_left(), max(0, self._trials - len(self._took) - len(self._began))
        parts = [f"{len(self._began)} running", f"{waiting} waiting"]
        parts.append(f"about {duration(left)} left" if left is not None else "time left: known after the first epoch")
        return Text("  ".join([*parts, "Ctrl-C stops; the same command goes on"]), style="dim")

    def _say(self, number: int, what: str, more: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"trial {number:04d} {what}" + (f": {escape(more)}" if more else ""), soft_wrap=True)


@contextlib.contextmanager
def on_screen(board: Board, console: Console) -> Iterator[None]:
    """The board, redrawn while the block runs; nothing to draw where there is no terminal."""
    if not console.is_terminal:
        yield
        return
    with Live(console=console, get_renderable=board.table, refresh_per_second=REDRAWS_PER_SECOND, transient=True):
        yield


def screen() -> Console:
    """Standard output; wide where it is no terminal, because a file has no edge to keep within."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def duration(seconds: float) -> str:
    """1:05 h, 12 min or 40 s."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
