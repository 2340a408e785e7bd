"""What waits for one receiver: a thread of its own sends it, at most one message in a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from study.notifications.message import Happening, Message
from study.notifications.receivers import SECONDS, NotSentError, Receiver

logger = logging.getLogger(__name__)

MOST_HELD = 500  # happenings that wait for a receiver which fails; the oldest go first


class Outbox:
    """Sends to one receiver. What could not be sent goes with the next message."""

    def __init__(self, receiver: Receiver, study: str, folder: str, pause: float, seconds: float = SECONDS) -> None:
        """`pause` is between two messages at least, `seconds` how long the receiver may take for one."""
        self._receiver, self._study, self._folder = receiver, study, folder
        self._pause, self._seconds = pause, seconds
        self._held: list[Happening] = []
        self._is_new = False  # whether something happened since the last try
        self._closing = False
        self._changed = threading.Condition()
        self._fails = False  # as was logged
        self._thread = threading.Thread(target=self._send_all, name="notify", daemon=True)
        self._thread.start()

    def put(self, happening: Happening) -> None:
        """Have something sent, soon. Returns at once."""
        with self._changed:
            self._held = [*self._held, happening][-MOST_HELD:]
            self._is_new = True
            self._changed.notify()

    def close(self) -> None:
        """Send what is held at once, and nothing more after it; see `join`."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait so long for the last message; one that is not sent by then is given up, with a line in the log."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            logger.warning("notify: %s did not take the last message in time", self._receiver)

    def _send_all(self) -> None:
        next_time = 0.0  # of the monotonic clock
        while True:
            happenings = self._take(next_time)
            if not happenings:
                return
            next_time = time.monotonic() + self._pause
            if not self._send(happenings):
                with self._changed:
                    self._held = [*happenings, *self._held][-MOST_HELD:]

    def _take(self, next_time: float) -> list[Happening]:
        """Wait until something is to be sent, and may be; empty once nothing more will come."""
        with self._changed:
            while not self._closing:
                left = next_time - time.monotonic()
                if self._is_new and left <= 0:
                    break
                self._changed.wait(left if self._is_new else None)
            if self._closing and not self._is_new:
                return []
            happenings, self._held, self._is_new = self._held, [], False
            return happenings

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
