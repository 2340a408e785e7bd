"""Follows a study from its ledger, in any process and on any machine that sees the folder, until no process runs it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from study.display.changes import describe_event
from study.display.rows import Rows
from study.display.status import print_status
from study.display.study_state import StudyState, find_state
from study.ledger.event_log import Position
from study.ledger.events import AnyEvent
from study.ledger.ledger import Ledger
from study.ledger.trials import Trials

DRAWING_SHARE = 4.0  # a study that takes long to draw is drawn less often, in a fifth of the time at most
LINES_AROUND = 16  # of a screen, for what stands above and below the rows of the table


class Follower:
    """A ledger that is read on from where it was read last."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._files, self._count = ledger.position.index + 1, ledger.trials.applied
        self._position = ledger.position

    def read(self) -> list[AnyEvent]:
        """Take the new events into the ledger's trials, and return them."""
        if len(self.ledger.log.files()) != self._files:
            # A session's first line may cut what was read of the files before it, so all is folded again.
            seen = self._count
            return self._read_whole()[seen:]
        events, self._position = self.ledger.log.read_since(self._position)
        for event in events:
            self.ledger.trials.apply(event)
        self._count += len(events)
        return events

    def _read_whole(self) -> list[AnyEvent]:
        self._files = len(self.ledger.log.files())
        events, self._position = self.ledger.log.read_since(Position())
        self.ledger.trials, self._count = Trials(events), len(events)
        return events


def watch(
    ledger: Ledger,
    study: Path,
    console: Console,
    rows: Rows | None = None,
    seconds: float = 2.0,
    sleep: Callable[[float], object] = time.sleep,
) -> StudyState:
    """Show a study every few seconds until no process runs it; its state then. `study` is the path that the user gave.

    On a terminal the table is drawn again, elsewhere a line is printed for each event. Ctrl-C ends the view alone.
    """
    follower, rows = Follower(ledger), rows or Rows()
    if not console.is_terminal:
        return _print_changes(follower, console, seconds, sleep)
    with Live(_draw(ledger, study, console, rows), console=console, auto_refresh=False, transient=True) as live:
        while True:
            state = find_state(ledger)[0]
            start = time.monotonic()
            if follower.read():  # what was written before its process ended is read after that was seen
                live.update(_draw(ledger, study, console, rows), refresh=True)
            if state is not StudyState.RUNNING:
                break
            sleep(max(seconds, DRAWING_SHARE * (time.monotonic() - start)))
    print_status(ledger, study, console, rows)
    return find_state(ledger)[0]


def _print_changes(
    follower: Follower, console: Console, seconds: float, sleep: Callable[[float], object]
) -> StudyState:
    trials = follower.ledger.trials
    _print(console, f"study {follower.ledger.study.name}: {len(trials)} trials so far, {len(trials.running)} running")
    while True:
        state, reason, _ = find_state(follower.ledger)
        for event in follower.read():
            if line := describe_event(event, follower.ledger.trials):
                _print(console, line)
        if state is not StudyState.RUNNING:
            state, reason, _ = find_state(follower.ledger)
            _print(console, f"study {follower.ledger.study.name}: {state}" + (f" ({reason})" if reason else ""))
            return state
        sleep(seconds)


def _draw(ledger: Ledger, study: Path, console: Console, rows: Rows) -> Text:
    """What `status` prints, as one renderable; rows are left out where the screen has no room for them."""
    stream = io.StringIO()
    frame = Console(file=stream, width=console.width, force_terminal=True, color_system="standard")
    room = max(5, console.height - LINES_AROUND)
    fitting = Rows(rows.sort, rows.top, room if rows.room is None else min(room, rows.room))
    print_status(ledger, study, frame, fitting)
    return Text.from_ansi(stream.getvalue())


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
