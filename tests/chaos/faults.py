"""Faults of the world around a study: a full disk, a lock that somebody else holds, at a moment of one's choice."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from small_disk import mount_small_disk

from study.ledger.event_log import EventLog
from study.ledger.events import AnyEvent as Event

Step = tuple[Callable[[list[Event]], bool], Callable[[], object]]
FOLDER = Path("studies/probe")  # of the study that `study_in` writes
PATIENCE = 300.0  # seconds for anything to happen on a busy machine


def epochs(many: int) -> Callable[[list[Event]], bool]:
    """Whether the ledger has so many epochs."""
    return lambda events: sum(event.kind == "trial_epoch" for event in events) >= many


@contextlib.contextmanager
def meanwhile(folder: Path, *steps: Step) -> Iterator[None]:
    """While the block runs, another thread reads the study's ledger and takes one step after the other.

    Each is taken when its condition holds; the block has to leave time for all of them.
    """
    over, errors, taken = threading.Event(), [], []

    def act() -> None:
        try:
            for holds, step in steps:
                while not holds(_events(folder)):
                    if over.wait(0.01):
                        return
                step()
                taken.append(step)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)
    assert not errors, errors
    assert len(taken) == len(steps), f"the study ended before step {len(taken) + 1} of {len(steps)} could be taken"


def _events(folder: Path) -> list[Event]:
    with contextlib.suppress(FileNotFoundError):
        return EventLog(folder).read()
    return []


@dataclass
class Disk:
    """A small disk of its own. `fill` takes all that is free and all that becomes free, until `free`."""

    folder: Path
    _freed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def fill(self) -> None:
        self._freed.clear()
        self._take()
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
            self._take()

    def _take(self) -> None:
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

    def hold(self, seconds: float) -> None:
        """Lock it for so long."""
        self.lock()
        time.sleep(seconds)
        self.free()

    def free(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=60)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


def gaps(events: list[Event]) -> list[float]:
    """Seconds between one event and the next."""
    times = [event.time for event in events]
    return [after - before for before, after in itertools.pairwise(times)]
