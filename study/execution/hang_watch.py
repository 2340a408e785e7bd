"""A command's own work that hangs, such as a preparation whose file system does not answer: it ends with one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from model.errors import UserError
from model.runtime.progress import follow_progress
from study.workers.stacks import dump_stacks, find_place
from study.workers.stall import StallWatch

LOOK_SECONDS = 1.0
GRACE_SECONDS = 10.0  # to leave what hangs, by an error raised there
EXIT_CODE = 2  # as that of other errors for users
# A process that computes for so large a part of the time does not hang, though it may note no progress for long, as
# the training of a tokenizer does.
BUSY = 0.2


@contextlib.contextmanager
def end_hanging(what: str, seconds: float | None, computes: bool = True) -> Iterator[None]:
    """Raise a UserError in the block once it has been without progress for `seconds`; None: never.

    With `computes`, this process' use of the CPU is progress too. Where the error cannot be raised, since the block
    hangs where Python has no say, its line is printed and the process ends. Outside the main thread nothing is watched.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watcher = _Watcher(what, seconds, computes)
    before = signal.signal(signal.SIGUSR2, watcher.raise_error)
    watcher.start()
    try:
        with follow_progress(watcher.note):
            yield
    finally:
        watcher.over.set()
        signal.signal(signal.SIGUSR2, before)


class _Watcher(threading.Thread):
    """Looks once a second whether the main thread has got further."""

    def __init__(self, what: str, seconds: float, computes: bool) -> None:
        super().__init__(name="hanging", daemon=True)
        self.over = threading.Event()
        self._what, self._seconds, self._computes = what, seconds, computes
        self._main = threading.get_ident()
        self._line = ""
        self._count = 0
        self._seen = 0, time.process_time(), time.monotonic()  # at the last look

    def note(self) -> None:
        """There was progress."""
        self._count += 1

    def raise_error(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal, in the main thread; also where that waits for a file, which the signal interrupts."""
        if self._line and not self.over.is_set():
            raise UserError(self._line)

    def has_progress(self) -> bool:
        """Whether there was progress since the last call."""
        (count, used, looked), self._seen = self._seen, (self._count, time.process_time(), time.monotonic())
        is_busy = self._seen[1] - used > BUSY * (self._seen[2] - looked)
        return self._seen[0] != count or (self._computes and is_busy)

    def run(self) -> None:
        watch = StallWatch(self._seconds)
        while not self.over.wait(LOOK_SECONDS):
            if self.has_progress():
                watch.note()
            if (silent := watch.look()) is not None:
                self._end(silent)
                return

    def _end(self, silent: float) -> None:
        stacks = dump_stacks(self._main)
        with contextlib.suppress(OSError):
            path = Path(tempfile.gettempdir()) / f"decred-study-stacks-{os.getpid()}.txt"
            path.write_text(stacks, encoding="utf-8")
        self._line = (
            f"{self._what} made no progress for {silent:.0f} s (failures.stall_seconds {self._seconds:g}) in "
            f"{find_place(stacks) or 'a place that is not known'}; all threads are in {path}. See whether that file "
            "system or machine answers, then start the same command again, which goes on where it was"
        )
        signal.pthread_kill(self._main, signal.SIGUSR2)
        if not self.over.wait(GRACE_SECONDS):
            print(f"error: {self._line}", file=sys.stderr, flush=True)
            os._exit(EXIT_CODE)
