"""Follows a running study and sends its receivers what the study file asks for, never in the study's way."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from study.config.notify import NotifySettings
from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord, TrialState
from study.notifications.message import Happening, Message
from study.notifications.occasions import OccasionWatch
from study.notifications.outbox import Outbox
from study.notifications.receivers import SECONDS, NotSentError, make_receivers

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0  # for the last messages, once the study has ended
_LOOKS = 10  # at the clock, in the time after which a study counts as stalled


class Notifier:
    """An observer of a session. `update` only notes what happened; threads send it.

    As a context manager it reports the study as stopped where neither `end` nor `stop` was called, and closes.
    """

    def __init__(self, study: StudyFile, folder: Path, records: Mapping[int, TrialRecord]) -> None:
        """`records` are those of earlier sessions. A UserError where a receiver of the study file is not there."""
        assert study.notify is not None
        self._settings: NotifySettings = study.notify
        self._occasions = OccasionWatch(records.values(), study.objective)
        pause = study.notify.pause_seconds
        receivers = make_receivers(study.notify)
        self._outboxes = [Outbox(receiver, study.name, str(folder), pause) for receiver in receivers]
        self._running: set[int] = set()
        self._latest = time.monotonic()  # when a trial reported something
        self._has_stalled = False
        self._is_open = False  # a trial has reported something, and neither `end` nor `stop` was called since
        self._closed = threading.Event()
        if "stall" in study.notify.on:
            threading.Thread(target=self._watch_for_stall, name="notify-stall", daemon=True).start()

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._is_open:
            was_stopped = error is None or isinstance(error, KeyboardInterrupt)
            self.stop("it was stopped" if was_stopped else f"it stops: {' '.join(str(error).split())}")
        self.close()

    def update(self, record: TrialRecord) -> None:
        """A trial's record has changed."""
        self._is_open = True
        self._latest, self._has_stalled = time.monotonic(), False
        (self._running.add if record.state is TrialState.RUNNING else self._running.discard)(record.number)
        try:
            happening = self._occasions.see(record)
        except Exception as error:  # a message is never worth a study
            logger.warning("notify: trial %04d was not looked at (%s)", record.number, type(error).__name__)
            return
        if happening is not None:
            self._put(happening)

    def end(self, text: str) -> None:
        """All that was to be done is done."""
        self._is_open = False
        self._put(Happening("end", text))

    def stop(self, text: str) -> None:
        """The study stops before its end."""
        self._is_open = False
        self._put(Happening("stop", text))

    def close(self, patience: float = PATIENCE_SECONDS) -> None:
        """Send what is left, and wait for it so many seconds at most."""
        self._closed.set()
        deadline = time.monotonic() + patience
        for outbox in self._outboxes:
            outbox.close()
        for outbox in self._outboxes:
            outbox.join(deadline - time.monotonic())

    def _put(self, happening: Happening) -> None:
        if happening.event in self._settings.on:
            for outbox in self._outboxes:
                outbox.put(happening)

    def _watch_for_stall(self) -> None:
        limit = self._settings.stall_seconds
        with contextlib.suppress(Exception):  # an interpreter that ends takes modules away under a daemon thread
            while not self._closed.wait(limit / _LOOKS):
                waited = time.monotonic() - self._latest
                running = len(self._running)
                if running and waited >= limit and not self._has_stalled:
                    self._has_stalled = True
                    trials = "1 trial runs" if running == 1 else f"{running} trials run"
                    self._put(Happening("stall", f"nothing was reported for {waited / 60:.0f} min, while {trials}"))


def send_trial_message(study: StudyFile, folder: Path, seconds: float = SECONDS) -> dict[str, str | None]:
    """Send a message to every receiver of a study, to try them: what became of it by receiver, None where it was taken.

    A UserError where a receiver is not there.
    """
    assert study.notify is not None
    happening = Happening("test", "this is a test of its notifications")
    outcomes: dict[str, str | None] = {}
    for receiver in make_receivers(study.notify):
        try:
            receiver.send(Message(study.name, str(folder), [happening]), seconds)
            outcomes[str(receiver)] = None
        except NotSentError as error:
            outcomes[str(receiver)] = str(error)
    return outcomes
