"""Faults around a study, at a chosen moment: a full disk, a database that another process has locked."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from small_disk import mount_small_disk

from study.ledger.event_log import EventLog, Position
from study.ledger.events import AnyEvent, TrialEpoch

Events = list[AnyEvent]
Step = tuple[Callable[[Events], bool], Callable[[], object]]
FOLDER = Path("studies/probe")  # of the study that `study_in` writes
PATIENCE = 300.0  # seconds for anything to happen on a busy machine


def has_epochs(count: int) -> Callable[[Events], bool]:
    """Whether so many epochs were reported."""
    return lambda events: sum(isinstance(event, TrialEpoch) for event in events) >= count


@contextlib.contextmanager
def inject_faults(folder: Path, *steps: Step) -> Iterator[None]:
    """While the block runs, another thread reads the study's events and takes one step after the other.

    Each is taken when its condition holds; the block has to last long enough for all of them.
    """
    over, errors, taken = threading.Event(), [], []

    def take_steps() -> None:
        events: Events = []
        position = Position()
        try:
            for condition, step in steps:
                while not condition(events):
                    if over.wait(0.01):
                        return
                    with contextlib.suppress(FileNotFoundError):  # a full disk made a session give up its new file
                        new, position = EventLog(folder).read_since(position)
                        events += new
                step()
                taken.append(step)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=take_steps, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)
    assert not errors, errors
    assert len(taken) == len(steps), f"the study ended before step {len(taken) + 1} of {len(steps)} could be taken"


@dataclass
class Disk:
    """A small disk of its own. `fill` takes all that is free and all that becomes free, until `free`."""

    folder: Path
    _freed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def fill(self) -> None:
        self._freed.clear()
        self._take_space()
        self._thread = threading.Thread(target=self._keep_full, daemon=True)
        self._thread.start()

    def free(self) -> None:
        self._freed.set()
        if self._thread is not None:
            self._thread.join()
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def _keep_full(self) -> None:
        while not self._freed.wait(0.001):
            self._take_space()

    def _take_space(self) -> None:
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Disk]:
    """A real tmpfs of `size`, freed in the end."""
    with mount_small_disk(folder, size):
        disk = Disk(folder)
        try:
            yield disk
        finally:
            disk.free()


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


class Locker:
    """Another process that holds an SQLite file locked, from `lock` to `free`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[str] | None = None

    def lock(self) -> None:
        command = [sys.executable, "-c", LOCK, str(self._path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n"

    def free(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=60)
            self._process = None


def gaps(events: Events) -> list[float]:
    """Seconds between one event and the next."""
    return [after.time - before.time for before, after in itertools.pairwise(events)]
