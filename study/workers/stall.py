"""When something that should get further hangs: how long it was without a sign of progress, and how long it may be."""

from __future__ import annotations

import time
from collections.abc import Callable

SIGN_SECONDS = 1.0  # a worker sends a sign of progress at most so often
# A wait counts no more than this from one look to the next: whoever looks may have been frozen with all the others.
MOST_BETWEEN_LOOKS = 5.0
# So many times the longest pause that was followed by progress: a training whose steps take minutes is left alone.
LONGEST_PAUSES = 3.0


class StallWatch:
    """Measures the time since the last sign of progress. `seconds` is the limit, None for none.

    Before the first sign it is `first_seconds`, where these are more: what has just started imports libraries, and
    reads what nobody has read before. Whoever waits calls `look` about once a second, and the time between two calls
    is what is added up.
    """

    def __init__(
        self, seconds: float | None, first_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._first_seconds = first_seconds
        self._had_progress = False
        self._clock = clock
        self._longest = 0.0  # seconds between two signs of progress
        self._silent = 0.0
        self._looked = clock()

    @property
    def limit(self) -> float | None:
        """Seconds after which nothing more is waited for."""
        if self.seconds is None:
            return None
        least = LONGEST_PAUSES * self._longest if self._had_progress else self._first_seconds
        return max(self.seconds, least)

    def restart(self) -> None:
        """Measure from now on; the time before was no pause of what is watched."""
        self._silent, self._looked = 0.0, self._clock()

    def note(self) -> None:
        """There was progress."""
        self._advance()
        if self._had_progress:
            self._longest = max(self._longest, self._silent)
        self._had_progress, self._silent = True, 0.0

    def look(self) -> float | None:
        """The seconds without progress, once they are too many; None before."""
        self._advance()
        limit = self.limit
        return self._silent if limit is not None and self._silent > limit else None

    def _advance(self) -> None:
        now = self._clock()
        self._silent += min(now - self._looked, MOST_BETWEEN_LOOKS)
        self._looked = now


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
