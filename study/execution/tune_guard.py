"""What keeps a run of Tune's under control: whether it has to stop, and the first error that was raised inside it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Stopping(Protocol):
    """Knows whether the study is to stop."""

    def is_stopping(self) -> bool: ...


class NotPickled:
    """Tune pickles what it is given into snapshots that nothing reads: a study goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class FirstError(NotPickled):
    """Keeps the first error of the study's own records, raised in a callback of Tune's, until Tune has ended.

    After it nothing more is recorded: what comes later must not be written where what came before is missing. A trial
    whose end was not recorded goes on another time, and reports it again.
    """

    def __init__(self, listener: Stopping) -> None:
        self._listener = listener
        self._interrupted = False
        self.error: Exception | None = None

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result | None:
        """What the function returns; None where it failed, or something failed before."""
        if self.error is None:
            try:
                return function(*arguments)
            except Exception as error:
                self.error = error
        return None

    def is_stopping(self) -> bool:
        """Whether all trials are to stop: after SIGINT, after an error, or because the study has to."""
        return self._interrupted or self.error is not None or self._listener.is_stopping()

    def catch_sigint(self) -> None:
        """Notice SIGINT beside Tune, which does not look at its own note of it while nothing runs.

        That is so while a retry waits; without this, the signal would take effect only after the retry had started.
        """
        of_tune = signal.getsignal(signal.SIGINT)

        def handle(kind: int, frame: FrameType | None) -> None:
            self._interrupted = True
            if callable(of_tune):
                of_tune(kind, frame)

        with contextlib.suppress(ValueError):  # outside the main thread nothing handles signals
            signal.signal(signal.SIGINT, handle)
