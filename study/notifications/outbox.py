"""What waits for one receiver: a thread of its own sends it, one message in a while at most, again if it failed."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence

from study.notifications.message import Happening, Message
from study.notifications.receivers import SECONDS, NotSentError, Receiver

logger = logging.getLogger(__name__)

MOST_HELD = 500  # happenings that wait for a receiver which fails; the oldest go first
RETRY_SECONDS = 1.0  # before what failed is tried again, where the pause between messages is shorter
LONGEST_RETRY_SECONDS = 3600.0


class Outbox:
    """Sends to one receiver. What could not be sent is tried again, with all that happened since."""

    def __init__(
        self,
        receiver: Receiver,
        study: str,
        folder: str,
        pause: float,
        seconds: float = SECONDS,
        retry: float = RETRY_SECONDS,
    ) -> None:
        """`pause` is between two messages at least, `seconds` how long the receiver may take for one.

        What failed is tried again after `pause`, and after `retry` at least; see `make_retry_pauses`.
        """
        self._receiver, self._study, self._folder = receiver, study, folder
        self._pause, self._seconds, self._retry = pause, seconds, retry
        self._held: list[Happening] = []
        # Times of the monotonic clock. `_due` is infinite while nothing is to be sent.
        self._earliest, self._due = 0.0, math.inf
        self._closing = False
        self._changed = threading.Condition()
        self._fails = False  # as was logged
        self._thread = threading.Thread(target=self._send_all, name="notify", daemon=True)
        self._thread.start()

    def put(self, happening: Happening) -> None:
        """Have something sent, soon. Returns at once."""
        with self._changed:
            self._held = [*self._held, happening][-MOST_HELD:]
            # Something new does not wait for the next retry, which may be an hour away.
            self._due = min(self._due, self._earliest)
            self._changed.notify()

    def close(self) -> None:
        """Send what is held at once, also where it failed before, and nothing more after it; see `join`."""
        with self._changed:
            self._closing, self._due = True, 0.0
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait so long for the last message; one that is not sent by then is given up, with a line in the log."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            logger.warning("notify: %s did not take the last message in time", self._receiver)

    def _send_all(self) -> None:
        retry_pauses = make_retry_pauses(self._pause, self._retry)
        while happenings := self._take():
            if self._send(happenings):
                retry_pauses = make_retry_pauses(self._pause, self._retry)
            else:
                self._hold(happenings, next(retry_pauses))

    def _take(self) -> list[Happening]:
        """Wait until something is to be sent, and may be; empty once nothing more will come."""
        with self._changed:
            while not self._closing and (left := self._due - time.monotonic()) > 0:
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            if self._due == math.inf:  # closing, and what is held failed after `close`
                return []
            happenings, self._held = self._held, []
            self._earliest, self._due = time.monotonic() + self._pause, math.inf
            return happenings

    def _hold(self, happenings: Sequence[Happening], retry_pause: float) -> None:
        """Keep what was not sent for another try; for none if this one began after `close`."""
        with self._changed:
            self._held = [*happenings, *self._held][-MOST_HELD:]
            if not self._closing:
                self._due = min(self._due, time.monotonic() + retry_pause)

    def _send(self, happenings: Sequence[Happening]) -> bool:
        """Whether the receiver took it. The log gets a line when it begins to fail, and when it works again."""
        try:
            self._receiver.send(Message(self._study, self._folder, happenings), self._seconds)
        except Exception as error:  # of any kind: a message is never worth a study
            if not self._fails:
                reason = error if isinstance(error, NotSentError) else type(error).__name__
                logger.warning("notify: %s failed (%s); the study continues", self._receiver, reason)
            self._fails = True
            return False
        if self._fails:
            logger.warning("notify: %s works again", self._receiver)
        self._fails = False
        return True


def make_retry_pauses(pause: float, shortest: float) -> Iterator[float]:
    """Seconds before each new try, doubled from one to the next, up to an hour or the pause if that is longer."""
    seconds = max(pause, shortest)
    longest = max(seconds, LONGEST_RETRY_SECONDS)
    while True:
        yield seconds
        seconds = min(2 * seconds, longest)
