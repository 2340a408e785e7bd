"""Work of this process that hangs, such as a read of a file system that does not answer: it ends with one line.

The stacks of all its threads, and of the processes that it has started, are kept in a file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from model.errors import UserError
from model.runtime.child_processes import dump_children, end_answering, used_cpu
from model.runtime.progress import follow_progress
from model.runtime.stacks import dump_stacks, find_place, save_stacks
from model.runtime.stall import StallWatch

LOOK_SECONDS = 1.0
LEAVE_SECONDS = 1.0  # to leave what hangs, by an error raised there
GRACE_SECONDS = 10.0  # the same, once the processes that work for it are ended
# Processes that compute for so large a part of the time do not hang, though they may note no progress for long, as the
# training of a tokenizer does.
BUSY = 0.2
STALL_SECONDS = 1200.0  # by default
ADVICE = (
    "See whether that file system or machine answers, then start the same command again, which goes on where it was"
)


@dataclass(frozen=True)
class Work:
    """What is watched, and what follows when it hangs."""

    what: str
    setting: str  # where its limit is from
    computes: bool = True  # whether the use of the CPU, by the processes that it started too, is progress
    # Whether it is progress too that the main thread went on after a wait, however short: so it does that reads many
    # small files of a slow server, and one that waits for ever does not.
    goes_on: bool = False
    first_seconds: float = 0.0  # for the first sign of progress, where these are more than the limit
    folder: Path | None = None  # for the stacks, where it is there; by default the system's for temporary files
    rank: int = 0
    error: type[Exception] = UserError
    code: int = 2  # the exit code where the error cannot be raised
    # Called in the watcher's thread instead of all that, with the line, and with where the main thread hangs.
    leave: Callable[[str, str | None], None] | None = None


@contextlib.contextmanager
def end_hanging(work: Work, seconds: float | None) -> Iterator[None]:
    """Raise an error in the block once it has been without progress for `seconds`; None: never.

    Where the error cannot be raised, since the block hangs where Python has no say, its line is printed and the process
    ends. Outside the main thread nothing is watched.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watcher = Watcher(work, seconds)
    before = signal.signal(signal.SIGUSR2, watcher.raise_error)
    watcher.start()
    try:
        with follow_progress(watcher.note):
            yield
    finally:
        watcher.over.set()
        signal.signal(signal.SIGUSR2, before)


class Watcher(threading.Thread):
    """Looks once a second whether the main thread has got further."""

    def __init__(self, work: Work, seconds: float) -> None:
        super().__init__(name="hanging", daemon=True)
        self.over = threading.Event()
        self._work, self._seconds = work, seconds
        self._main, self._native = threading.get_ident(), threading.get_native_id()
        self._line = ""
        self._count = 0
        self._seen = self._count_all(), self._used(), time.monotonic()  # at the last look

    def note(self) -> None:
        """There was progress."""
        self._count += 1

    def raise_error(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal, in the main thread; also where that waits for a file, which the signal interrupts."""
        if self._line and not self.over.is_set():
            raise self._work.error(self._line)

    def has_progress(self) -> bool:
        """Whether there was progress since the last call."""
        (count, used, looked), self._seen = self._seen, (self._count_all(), self._used(), time.monotonic())
        spent = sum(seconds - used.get(pid, 0.0) for pid, seconds in self._seen[1].items())
        return self._seen[0] != count or spent > BUSY * (self._seen[2] - looked)

    def run(self) -> None:
        watch = StallWatch(self._seconds, self._work.first_seconds)
        while not self.over.wait(LOOK_SECONDS):
            if self.has_progress():
                watch.note()
            if (silent := watch.look()) is not None:
                self._end(silent)
                return

    def _count_all(self) -> int:
        """What was noted, and how often the main thread has waited for something, where that counts."""
        return self._count + (_count_waits(self._native) if self._work.goes_on else 0)

    def _used(self) -> dict[int, float]:
        """The CPU seconds of this process, and of those that it has started, where they count."""
        return {0: time.process_time(), **used_cpu(os.getpid())} if self._work.computes else {}

    def _end(self, silent: float) -> None:
        stacks = dump_stacks(self._main) + dump_children(os.getpid())
        kept, place = _keep(stacks, self._work), find_place(stacks)
        self._line = (
            f"{self._work.what} made no progress for {silent:.0f} s ({self._work.setting} {self._seconds:g}) in "
            f"{place or 'a place that is not known'}{kept}. {ADVICE}"
        )
        if self._work.leave is not None:
            self._work.leave(self._line, place)
            return
        signal.pthread_kill(self._main, signal.SIGUSR2)
        if not self.over.wait(LEAVE_SECONDS):
            end_answering(os.getpid())  # the block may wait for the process that hangs
        if not self.over.wait(GRACE_SECONDS):
            print(f"error: {self._line}", file=sys.stderr, flush=True)
            os._exit(self._work.code)


def _count_waits(thread: int) -> int:
    """How often a thread of this process has begun to wait since its start; always 0 without Linux's /proc."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/self/task/{thread}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("voluntary")).split()[1])
    return 0


def _keep(stacks: str, work: Work) -> str:
    """Write the stacks into the folder of the work, or else where temporary files are; in words, where they are."""
    if work.folder is not None and (written := save_stacks(work.folder, {work.rank: stacks})):
        return f"; all threads are in {written[0]}"
    path = Path(tempfile.gettempdir()) / f"decred-study-stacks-{os.getpid()}.txt"
    try:
        path.write_text(stacks, encoding="utf-8")
    except OSError:
        return ""
    return f"; all threads are in {path}"
