"""Follows a study that runs, in the background and never in its way: a thread that syncs MLflow with the ledger.

The ledger's events are on the disk before the thread knows of them, so nothing is lost however long MLflow is away.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from model.errors import UserError
from study.config.tracking_uri import mask_uri
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.tracking.mlflow_store import brief, client_of, refuses_credentials, store_uri
from study.tracking.sync import Number, Sync

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE, _LAST_PAUSE = 0.5, 15.0, 1.0  # seconds before another try; the last: while closing


class Tracker:
    """The tracker of a running study."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is opened yet."""
        self.uri = store_uri(ledger.study.tracking, ledger.folder)
        self.refused = False  # the server refuses the credentials; it is asked no more
        self._ledger = ledger
        self._sync = Sync(ledger, self._note_progress, self._read_trials)
        self._awake, self._closing, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._moved = threading.Condition()
        self._sent = set[Number]()  # runs, since the tracker is closing
        self._has_ended = False
        self._thread = threading.Thread(target=self._follow, name="tracker", daemon=True)

    @property
    def has_compared(self) -> bool:
        """Whether MLflow answered at least once, so that what it has is known."""
        return self._sync.has_compared

    def start(self) -> None:
        """Begin to sync, with what an earlier session left."""
        # Imported here and not by the thread: Ray and MLflow share packages, which two threads must not import at once.
        with contextlib.suppress(Exception):
            client_of(self.uri)
        with contextlib.suppress(RuntimeError):  # started before
            self._thread.start()

    def wake(self) -> None:
        """The ledger has a new event."""
        self._awake.set()

    def update(self, record: TrialRecord) -> None:
        """A trial's record has changed."""
        self.wake()

    def close(self, patience: float = 10.0) -> int:
        """Wait until all runs are up to date, or no other one was sent for `patience` seconds; how many are not.

        A run counts once: a store whose disk is full may take the same one again and again, and hold it never.
        """
        self._closing.set()
        self._awake.set()
        with self._moved:
            self._sent.clear()
            while self._thread.is_alive() and not self._has_ended and self._wait_for_another(patience):
                pass
        self._stopped.set()
        return self.count_outdated()

    def _wait_for_another(self, patience: float) -> bool:
        """Whether a run that was not sent before is sent within `patience` seconds, or the thread ends."""
        before = len(self._sent)
        return self._moved.wait_for(lambda: self._has_ended or len(self._sent) > before, patience)

    def count_outdated(self) -> int:
        """How many runs MLflow is not known to have as the ledger has them."""
        return self._sync.count_outdated(self._ledger.trials)

    def _read_trials(self) -> Trials:
        """The trials of the driver itself, which a study of thousands has no room for twice.

        Once another driver has taken the study over, its events are not among them: then nothing more is sent.
        """
        trials = self._ledger.copy_trials()
        try:
            self._ledger.check_ownership()
        except UserError:
            self._stopped.set()
            raise
        return trials

    def _follow(self) -> None:
        with contextlib.suppress(Exception):  # an interpreter that ends takes modules away under a daemon thread
            self._sync_until_closed()
        with self._moved:
            self._has_ended = True
            self._moved.notify_all()

    def _sync_until_closed(self) -> None:
        pause = 0.0  # of the last try; 0 where it went well
        while not self._stopped.is_set():
            self._awake.clear()
            try:
                sent = self._sync.sync_batch()
            except Exception as error:  # MLflow, its database and its HTTP client each raise their own
                if self._stopped.is_set():
                    return
                self.refused = refuses_credentials(error)
                if self.refused or not pause:
                    self._warn(error)
                if self.refused:
                    return
                pause = min(2 * pause, _LONGEST_PAUSE) if pause else _FIRST_PAUSE
                self._rest(pause)
                continue
            if pause:
                logger.warning("tracking: %s answers again", mask_uri(self.uri))
                pause = 0.0
            if not sent:
                if self._closing.is_set():
                    return
                self._awake.wait()

    def _warn(self, error: Exception) -> None:
        if self.refused:
            text = "tracking: %s refuses the credentials (%s); the study continues, nothing more is sent"
        else:
            text = "tracking: %s does not answer (%s); the study continues, its runs are sent later"
        logger.warning(text, mask_uri(self.uri), brief(error, self.uri))

    def _rest(self, pause: float) -> None:
        if self._closing.wait(pause):
            self._stopped.wait(min(pause, _LAST_PAUSE))

    def _note_progress(self, number: Number) -> None:
        with self._moved:
            self._sent.add(number)
            self._moved.notify_all()
