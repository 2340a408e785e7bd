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
    """Tune pickles its callbacks into snapshots that nothing reads: a study continues from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class RayEnded(BaseException):
    """What is to be said of a Ray that is no more.

    It is no Exception, because Tune would then release the trials' resources, and wait for an answer that never comes.
    """


class FirstError(NotPickled):
    """Keeps the first error of the study's own records, raised in a callback of Tune's, until Tune has ended.

    After it nothing more is recorded, because no event may be written after a missing one. A trial whose end was not
    recorded continues in a later session, and reports it again.
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
        """Handle SIGINT beside Tune, which does not check its own flag while nothing runs.

        That is so while a retry waits; without this, the signal would take effect only after the retry had started.
        """
        of_tune = signal.getsignal(signal.SIGINT)

        def handle(kind: int, frame: FrameType | None) -> None:
            self._interrupted = True
            if callable(of_tune):
                of_tune(kind, frame)

        with contextlib.suppress(ValueError):  # signals are handled in the main thread alone
            signal.signal(signal.SIGINT, handle)
