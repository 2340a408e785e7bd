"""When a trial's workers hang: `model.runtime.stall` measures it, from signs that they send at most once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

SIGN_SECONDS = 1.0  # a worker sends a sign of progress at most so often


class SignSender:
    """Passes signs of progress on, at most one in `SIGN_SECONDS`, to `send`; the first one at once."""

    def __init__(self, send: Callable[[], None]) -> None:
        self._send = send
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SIGN_SECONDS
            self._send()
