"""The signals that stop a study."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def handle_stop_signals() -> Iterator[None]:
    """SIGTERM stops a study as Ctrl-C does while the block runs. Outside the main thread signals are left alone."""
    with contextlib.suppress(ValueError):
        before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    forward_sigterm()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # Tune leaves a handler behind
            for kind, handler in before.items():
                signal.signal(kind, handler)


def forward_sigterm() -> None:
    """Turn SIGTERM into SIGINT, until another handler for it is set, as Ray does."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))


def ignore_stop_signals() -> None:
    """For a process that has nothing left but to end: a second SIGTERM or Ctrl-C would change its exit code."""
    with contextlib.suppress(ValueError):
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_IGN)
