"""When something that should get further hangs: how long it was without a sign of progress, and how long it may be."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

# A wait counts no more than this from one look to the next: whoever looks may have been frozen with all the others.
MOST_BETWEEN_LOOKS = 5.0
# So many times the longest pause that was followed by progress: a training whose steps take minutes is left alone.
LONGEST_PAUSES = 3.0
USUAL_OF = 9  # epochs: the usual one is the median of the last ones


class StallWatch:
    """Measures the time since the last sign of progress. `seconds` is the least limit, None for none.

    With `epochs` the limit is at least so many times the usual epoch, once one is known. Before the first sign it is
    `first_seconds`, where these are more: what has just started imports libraries, and reads what nobody has read
    before. Whoever waits calls `look` about once a second, and the time between two calls is what is added up.
    """

    def __init__(
        self,
        seconds: float | None,
        first_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        epochs: float | None = None,
    ) -> None:
        self.seconds = seconds
        self._epochs = epochs
        self._first_seconds = first_seconds
        self._had_progress = False
        self._clock = clock
        self._longest = 0.0  # seconds between two signs of progress
        self._silent = 0.0
        self._epoch = 0.0  # seconds since it was restarted, with progress or without
        self._last_epochs: deque[float] = deque(maxlen=USUAL_OF)
        self._looked = clock()

    @property
    def limit(self) -> float | None:
        """Seconds after which nothing more is waited for."""
        if self.seconds is None:
            return None
        least = LONGEST_PAUSES * self._longest if self._had_progress else self._first_seconds
        return max(self.seconds, least, self._of_epochs())

    @property
    def usual_epoch(self) -> float | None:
        """The median of the last epochs' seconds; None before the first one has ended."""
        return median(self._last_epochs) if self._last_epochs else None

    def describe_limit(self) -> str:
        """The setting that the limit comes from; that of the seconds has no other name here than in a study file."""
        if self.seconds is not None and self._epochs is not None and self._of_epochs() > self.seconds:
            return f"failures.stall_epochs {self._epochs:g}, its usual epoch takes {self.usual_epoch:.0f} s"
        return f"failures.stall_seconds {self.seconds:g}"

    def restart(self) -> None:
        """Measure from now on; the time before was no pause of what is watched, and no part of an epoch."""
        self._silent, self._epoch, self._looked = 0.0, 0.0, self._clock()

    def note(self) -> None:
        """There was progress."""
        self._advance()
        if self._had_progress:
            self._longest = max(self._longest, self._silent)
        self._had_progress, self._silent = True, 0.0

    def note_epoch(self) -> None:
        """An epoch has ended, which began when the measurement was started or restarted."""
        self._advance()
        self._last_epochs.append(self._epoch)

    def forget_epochs(self) -> None:
        """Another training begins, whose epochs may take longer or shorter."""
        self._last_epochs.clear()

    def look(self) -> float | None:
        """The seconds without progress, once they are too many; None before."""
        self._advance()
        limit = self.limit
        return self._silent if limit is not None and self._silent > limit else None

    def _of_epochs(self) -> float:
        """The limit that the usual epoch sets, 0 where none is known."""
        return (self._epochs or 0.0) * (self.usual_epoch or 0.0)

    def _advance(self) -> None:
        now = self._clock()
        passed = min(now - self._looked, MOST_BETWEEN_LOOKS)
        self._silent += passed
        self._epoch += passed
        self._looked = now
