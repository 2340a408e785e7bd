"""Telling MLflow what the ledger holds, without ever being in the way of the study.

The ledger's events are the spool: they are on the disk before anybody hears of them. A sender in the background follows
them, batch by batch, and notes in `tracked.json` how far it is. Whatever is sent twice is kept once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError
from model.strict import write_atomically
from study.ledger import EVENTS, Ledger
from study.mlflow_adapter import Store
from study.mlflow_store import brief, check_uri, client_of, sqlite_file, store_uri
from study.telling import Change, Telling

logger = logging.getLogger(__name__)

CURSOR, WRITER = "tracked.json", "tracked.writer"
_MOST_EVENTS = 500  # of one batch
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
            self._deliver(_Delivery(self._ledger, self._went_on))
        self._went_on()

    def _deliver(self, delivery: _Delivery) -> None:
        pause, silent = _FIRST_PAUSE, False
        while not self._stopped.is_set():
            self._awake.clear()
            try:
                sent = delivery.batch()
            except Exception as error:  # MLflow, its database and its HTTP client each raise their own
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


def waiting(ledger: Ledger) -> int:
    """Events that MLflow has not heard yet."""
    try:
        with (ledger.folder / EVENTS).open("rb") as file:
            file.seek(_offset(ledger))
            return sum(line.endswith(b"\n") for line in file)
    except OSError:
        return 0


def undelivered(events: int, uri: str, study: Path) -> str:
    """The line that says what waits; empty where nothing does."""
    if not events:
        return ""
    wait = "1 event waits" if events == 1 else f"{events} events wait"
    return f"{wait} for MLflow at {uri}; send with: decred-study track {study} --flush"


def flush(ledger: Ledger) -> int:
    """Deliver now what waits, in turn with a study that runs; the number of events sent."""
    uri = store_uri(ledger.study.tracking, ledger.folder)
    check_uri(uri)
    delivery, sent, tries = _Delivery(ledger), 0, 0
    while True:
        try:
            batch = delivery.batch()
        except UserError:
            raise
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            tries += 1
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
    with _writer(uri, ledger.folder):
        _note(ledger, uri, 0)
    return flush(ledger)


class _Delivery:
    """Takes the ledger's events to the store; whoever delivers does it through this, one at a time."""

    def __init__(self, ledger: Ledger, went_on: Callable[[], None] = lambda: None) -> None:
        self._ledger = ledger
        self._went_on = went_on
        self._uri = store_uri(ledger.study.tracking, ledger.folder)
        self._store: Store | None = None
        self._telling = Telling()
        self._offset = 0  # the events before it are told
        self._batch: _Batch | None = None  # the one that an error left unfinished

    def batch(self) -> int:
        """Deliver the next batch: how many events it held, 0 where none waits. It raises what the store raises."""
        if _offset(self._ledger) == (self._ledger.folder / EVENTS).stat().st_size:
            return 0  # without a turn at the store
        with _writer(self._uri, self._ledger.folder):
            self._catch_up(_offset(self._ledger))
            if self._batch is None:
                events, behind = self._ledger.events_since(self._offset, _MOST_EVENTS)
                if not events:
                    return 0
                self._batch = _Batch(self._telling.changes(events), len(events), behind)
            self._apply(self._batch)
            sent, self._offset, self._batch = self._batch.events, self._batch.behind, None
            _note(self._ledger, self._uri, self._offset)
            return sent

    def _catch_up(self, offset: int) -> None:
        """Where an earlier session or another process told more, or a rebuild begins anew, go on from there."""
        if offset == self._offset:
            return
        self._telling, self._offset, self._batch = Telling(), offset, None
        with (self._ledger.folder / EVENTS).open("rb") as file:
            self._telling.changes(json.loads(line) for line in file.read(offset).split(b"\n")[:-1])
        if self._store is not None:
            self._store.forget()

    def _apply(self, batch: _Batch) -> None:
        if self._store is None:
            (first,), _ = self._ledger.events_since(0, 1)
            study, study_id = self._ledger.study, self._ledger.manifest.get("id")
            self._store = Store(study, self._ledger.folder, study_id, first["time"])
        store = self._store
        try:
            store.open()
            while batch.changes:
                change = batch.changes[0]
                store.apply(change, artifacts(self._ledger, change.number) if change.artifacts else [])
                batch.changes.pop(0)
                self._went_on()
            store.settle()
        except Exception:
            store.forget()
            raise


@dataclass
class _Batch:
    changes: list[Change]
    events: int
    behind: int


def artifacts(ledger: Ledger, number: int | None) -> list[Path]:
    """The files of a trial that MLflow shows."""
    if number is None:
        return []
    folder = ledger.trial_folder(number)
    kept = [folder / "recipe.yaml"]
    for pattern in ("hypotheses/*.jsonl", "error-*.txt", "broken-batch.*"):
        kept += sorted(folder.glob(pattern))
    return [path for path in kept if path.is_file()]


def _offset(ledger: Ledger) -> int:
    """Bytes of the ledger's events that the store has heard; none of them where the store is another one."""
    try:
        noted = json.loads((ledger.folder / CURSOR).read_text(encoding="utf-8"))
        offset = noted["offset"] if noted["uri"] == store_uri(ledger.study.tracking, ledger.folder) else 0
        with (ledger.folder / EVENTS).open("rb") as file:
            file.seek(max(offset - 1, 0))
            # A line that was heard and then taken back, by a disk that was full after all, leaves it amid another one.
            return offset if offset > 0 and file.read(1) == b"\n" else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _note(ledger: Ledger, uri: str, offset: int) -> None:
    write_atomically(ledger.folder / CURSOR, json.dumps({"uri": uri, "offset": offset}) + "\n")


@contextlib.contextmanager
def _writer(uri: str, folder: Path) -> Iterator[None]:
    """Be the store's one writer, after whoever is it now: studies on one SQLite file take turns by batch.

    A server takes many at once; there it is the one writer of this study's runs.
    """
    path = folder / WRITER
    if uri.startswith("sqlite"):
        database = sqlite_file(uri)
        path = database.with_name(f"{database.name}.writer")
    with path.open("a") as stream:
        with contextlib.suppress(OSError):  # a file system without locks: nobody can be kept out
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
