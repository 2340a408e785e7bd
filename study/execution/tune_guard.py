"""What keeps a run of Tune's in hand: whether it has to stop, and the first error that came up inside it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Stopping(Protocol):
    """Who knows whether the study is to stop."""

    def stopping(self) -> bool: ...


class NotKept:
    """Tune pickles what it is given into snapshots that nobody reads: the ledger is what a study goes on from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Guard(NotKept):
    """Keeps the first error of the study's own records, raised by a callback of Tune's, until Tune has ended.

    After it nothing more is told: what comes later must not be written where what came before is missing. A trial that
    nobody heard the end of goes on another time, and tells it again.
    """

    def __init__(self, listener: Stopping) -> None:
        self._listener = listener
        self._interrupted = False
        self.error: Exception | None = None

    def call(self, tell: Callable[..., Result], *given: Any) -> Result | None:
        """What `tell` returns; None where it failed, or something failed before."""
        if self.error is None:
            try:
                return tell(*given)
            except Exception as error:
                self.error = error
        return None

    def stopping(self) -> bool:
        return self._interrupted or self.error is not None or self._listener.stopping()

    def hear_signals(self) -> None:
        """Know of SIGINT beside Tune: it does not look at its own note while nothing runs and it waits for a trial.

        That is so while a retry waits; without this, the signal would be heard only after the retry had started.
        """
        tunes = signal.getsignal(signal.SIGINT)

        def hear(kind: int, frame: FrameType | None) -> None:
            self._interrupted = True
            if callable(tunes):
                tunes(kind, frame)

        with contextlib.suppress(ValueError):  # outside the main thread nobody handles signals
            signal.signal(signal.SIGINT, hear)
