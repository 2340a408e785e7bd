"""Follows a study that another process may run: its trials as its event files have them by now."""

from __future__ import annotations

from pathlib import Path

from study.ledger.event_log import EventLog, Position
from study.ledger.fold_cache import read_fold
from study.ledger.trials import Trials

_BLOCK = 500  # events that are read at a time


class Follower:
    """Reads and folds what was written since it was called last. For one thread."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the study's. Nothing is read yet."""
        self._log, self._position = EventLog(folder), Position()
        self._trials: Trials | None = None

    def __call__(self) -> Trials:
        """The trials by now; the same value each time, which changes."""
        if self._trials is None:
            fold = read_fold(self._log)
            self._trials, self._position = fold.trials, fold.position
        while True:
            events, self._position = self._log.read_since(self._position, _BLOCK)
            if not events:
                return self._trials
            for event in events:
                self._trials.apply(event)
