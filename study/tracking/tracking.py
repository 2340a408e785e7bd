"""Telling MLflow what the ledger holds, without ever being in the way of the study.

The ledger's events are the spool: they are on the disk before anybody hears of them. A sender in the background follows
them, batch by batch. Whatever is sent twice is kept once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path

from model.errors import UserError
from study.ledger.ledger import Ledger
from study.tracking.delivery import Delivery, note, waiting, writer
from study.tracking.mlflow_store import CREDENTIALS, brief, check_uri, client_of, refuses_credentials, store_uri

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE, _LAST_PAUSE = 0.5, 15.0, 1.0  # seconds before another try; the last: while closing
_FLUSH_TRIES = 3


class Tracking:
    """The sender of a running study: a thread that delivers while the study goes on."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is opened yet."""
        self.uri = store_uri(ledger.study.tracking, ledger.folder)
        self._ledger = ledger
        self._awake, self._closing, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._moved = threading.Condition()
        self._progress = 0
        self.refused = False  # the server does not take these credentials: it is asked no more
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def start(self) -> None:
        """Begin to deliver, with what an earlier session left."""
        # Imported here and not by the thread: Ray and MLflow share packages, which two threads had better not import.
        with contextlib.suppress(Exception):
            client_of(self.uri)
        with contextlib.suppress(RuntimeError):  # started before
            self._thread.start()

    def wake(self) -> None:
        """The ledger has more to tell."""
        self._awake.set()

    def close(self, patience: float = 10.0) -> int:
        """Wait until all is delivered, or nothing more was for `patience` seconds; the number of events that wait."""
        self._closing.set()
        self._awake.set()
        with self._moved:
            while self._thread.is_alive():
                before = self._progress
                if not self._moved.wait_for(lambda was=before: self._progress != was, patience):  # type: ignore[misc]
                    break
        self._stopped.set()
        return waiting(self._ledger)

    def _follow(self) -> None:
        with contextlib.suppress(Exception):  # an interpreter that ends takes modules away under a daemon thread
            self._deliver(Delivery(self._ledger, self._went_on))
        self._went_on()

    def _deliver(self, delivery: Delivery) -> None:
        pause, silent = _FIRST_PAUSE, False
        while not self._stopped.is_set():
            self._awake.clear()
            try:
                sent = delivery.batch()
            except Exception as error:  # MLflow, its database and its HTTP client each raise their own
                if refuses_credentials(error):
                    self.refused = True
                    words = "tracking: %s refuses the credentials (%s); the study goes on and tells it no more"
                    logger.warning(words, self.uri, brief(error))
                    return
                if not silent:
                    logger.warning(
                        "tracking: %s does not answer (%s); the study goes on and tells it later",
                        self.uri,
                        brief(error),
                    )
                silent = True
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if silent and sent:
                logger.warning("tracking: %s answers again", self.uri)
                pause, silent = _FIRST_PAUSE, False
            if not sent:
                if self._closing.is_set():
                    return
                self._awake.wait()

    def _rest(self, pause: float) -> None:
        if not self._closing.wait(pause):
            return
        self._stopped.wait(min(pause, _LAST_PAUSE))

    def _went_on(self) -> None:
        with self._moved:
            self._progress += 1
            self._moved.notify_all()


def undelivered(events: int, uri: str, study: Path, refused: bool = False) -> str:
    """The line that says what waits; empty where nothing does. `refused`: because of the credentials."""
    if not events:
        return ""
    wait, them = ("1 event waits", "it") if events == 1 else (f"{events} events wait", "them")
    first = f", which refuses the credentials; {CREDENTIALS}, then" if refused else ";"
    return f"{wait} for MLflow at {uri}{first} send {them} with: decred-study track {study} --flush"


def flush(ledger: Ledger) -> int:
    """Deliver now what waits, in turn with a study that runs; the number of events sent."""
    uri = store_uri(ledger.study.tracking, ledger.folder)
    check_uri(uri)
    delivery, sent, tries = Delivery(ledger), 0, 0
    while True:
        try:
            batch = delivery.batch()
        except UserError:
            raise
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            tries += 1
            if refuses_credentials(error):
                raise UserError(f"tracking {uri} refuses the credentials ({brief(error)}); {CREDENTIALS}") from None
            if tries < _FLUSH_TRIES:
                time.sleep(_FIRST_PAUSE * tries)
                continue
            raise UserError(
                f"tracking {uri} does not take the events ({brief(error)}), {waiting(ledger)} wait; "
                "put it right and repeat the command"
            ) from None
        tries = 0
        sent += batch
        if not batch:
            return sent


def rebuild(ledger: Ledger) -> int:
    """Tell MLflow everything from the first event on; what it has already is kept once. The number of events told."""
    uri = store_uri(ledger.study.tracking, ledger.folder)
    check_uri(uri)
    with writer(uri, ledger.folder):
        note(ledger, uri, 0)
    return flush(ledger)
