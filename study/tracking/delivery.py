"""One batch of a ledger's events on its way to MLflow: where it begins, whose turn it is, what was sent.

`tracked.json` in the study folder says how far the store has heard.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.strict import write_atomically
from study.ledger.ledger import EVENTS, Ledger
from study.tracking.mlflow_adapter import Store
from study.tracking.mlflow_store import sqlite_file, store_uri
from study.tracking.telling import Change, Telling

CURSOR, WRITER = "tracked.json", "tracked.writer"
_MOST_EVENTS = 500  # of one batch


def waiting(ledger: Ledger) -> int:
    """Events that MLflow has not heard yet."""
    try:
        with (ledger.folder / EVENTS).open("rb") as file:
            file.seek(offset_of(ledger))
            return sum(line.endswith(b"\n") for line in file)
    except OSError:
        return 0


class Delivery:
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
        if offset_of(self._ledger) == (self._ledger.folder / EVENTS).stat().st_size:
            return 0  # without a turn at the store
        with writer(self._uri, self._ledger.folder):
            self._catch_up(offset_of(self._ledger))
            if self._batch is None:
                events, behind = self._ledger.events_since(self._offset, _MOST_EVENTS)
                if not events:
                    return 0
                self._batch = _Batch(self._telling.changes(events), len(events), behind)
            self._apply(self._batch)
            sent, self._offset, self._batch = self._batch.events, self._batch.behind, None
            note(self._ledger, self._uri, self._offset)
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
    for pattern in ("hypotheses/*.jsonl", "error-*.txt", "broken-batch-*.json"):
        kept += sorted(folder.glob(pattern))
    return [path for path in kept if path.is_file()]


def offset_of(ledger: Ledger) -> int:
    """Bytes of the ledger's events that the store has heard; none of them where the store is another one."""
    try:
        noted = json.loads((ledger.folder / CURSOR).read_text(encoding="utf-8"))
        offset = noted["offset"] if noted["uri"] == store_uri(ledger.study.tracking, ledger.folder) else 0
        return offset if _behind_a_line(ledger.folder / EVENTS, offset) else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _behind_a_line(path: Path, offset: int) -> bool:
    """Whether the file, which a full disk or a person may have cut, still has a line that ends there."""
    with path.open("rb") as file:
        file.seek(offset - 1)
        return file.read(1) == b"\n"


def note(ledger: Ledger, uri: str, offset: int) -> None:
    write_atomically(ledger.folder / CURSOR, json.dumps({"uri": uri, "offset": offset}) + "\n")


@contextlib.contextmanager
def writer(uri: str, folder: Path) -> Iterator[None]:
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
