"""Where a run's weights are: in its folder, or in an object store, which `weights_at.json` in its folder names.

With a store a run's folder has all small files, and the store those of checkpoints, candidates and chosen weights. A
training writes them on its machine's own disk (the run's scratch folder) and then into the store; one that continues
elsewhere starts from what the store has. chosen.json is in both, so that what was chosen is known without the store.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from model.errors import UserError
from model.strict import write_atomically
from model.weights.object_store import FULL, ObjectStore, StoreError
from model.weights.scratch import Scratch
from model.weights.stored_folders import StoredFolders

WEIGHTS_AT = "weights_at.json"
WAIT_SECONDS = 300.0  # for a store that does not answer while a run trains
_READ_SECONDS = 10.0  # for a store that is only read: nothing is lost if it does not answer
_KEPT = 2  # runs whose weights a process that reads has on its disk at the same time


@dataclass(frozen=True)
class WeightsAt:
    """The URL of a run's weights, and how long a training waits for the store; `shared`: they are another run's."""

    url: str
    wait_seconds: float = WAIT_SECONDS
    shared: bool = False


def write_weights_at(folder: Path, place: WeightsAt) -> None:
    """Record in a run's folder where its weights are."""
    write_atomically(folder / WEIGHTS_AT, json.dumps(asdict(place)) + "\n")


def read_weights_at(folder: Path) -> WeightsAt | None:
    """Where a run's weights are; None where they are in its folder. A damaged file is a UserError."""
    path = folder / WEIGHTS_AT
    try:
        return WeightsAt(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({' '.join(str(error).split())}); restore it") from None


class RunStore:
    """The weights of one run in an object store, and this machine's copy of them in `local`."""

    def __init__(self, place: WeightsAt, trains: bool) -> None:
        self.place, self.trains = place, trains
        store = ObjectStore(place.url, place.wait_seconds if trains else _READ_SECONDS)
        self.folders = StoredFolders(store)
        self._scratch = Scratch(place.url, shared=trains)

    @property
    def local(self) -> Path:
        return self._scratch.folder

    def restore(self, kinds: tuple[str, ...]) -> None:
        """Make this machine's copy of these kinds what the store has as a whole; for the process that writes."""
        for kind in kinds:
            whole = self.folders.list_whole(kind)
            for path in (self.local / kind).glob("*"):
                if path.name not in whole:
                    shutil.rmtree(path, ignore_errors=True)
            for name in whole:
                if not self._download(f"{kind}/{name}"):
                    shutil.rmtree(self.local / kind / name, ignore_errors=True)

    def publish(self, kind: str) -> None:
        """Make what the store has of a kind this machine's copy: what is new is whole there before the old goes."""
        self._refuse_shared()
        names = sorted(path.name for path in (self.local / kind).glob("epoch-*"))
        there = self.folders.list_names(kind)
        for name in names:
            self.folders.upload(self.local / kind / name, f"{kind}/{name}")
        for name in there:
            if name not in names:
                self.folders.remove(f"{kind}/{name}")

    def publish_folder(self, name: str) -> None:
        """Write one folder into the store."""
        self._refuse_shared()
        self.folders.upload(self.local / name, name)

    def fetch(self, name: str) -> Path:
        """This machine's copy of a folder; a StoreError where the store does not have it as a whole."""
        if not self._download(name):
            raise StoreError(
                f"{self.place.url}/{name}: is not there, or its content is not what was written; restore it, or train "
                "again"
            )
        return self.local / name

    def fetch_latest(self, kind: str) -> Path | None:
        """This machine's copy of the newest whole folder of a kind; None where there is none."""
        for _ in range(2):  # a training may replace what was just listed
            for name in reversed(self.folders.list_whole(kind)):
                if self._download(f"{kind}/{name}"):
                    return self.local / kind / name
        return None

    def leave(self) -> None:
        """This process needs its copies no more."""
        self._scratch.leave()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A StoreError where the disk for this machine's copies is full, which is not the one that holds the run."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            if getattr(error, "errno", None) not in FULL and "No space left" not in str(error):
                raise
            raise StoreError(
                f"node {socket.gethostname()}: the disk of {self.local.parent} has no room for copies of weights; free "
                "some, or set TMPDIR to a folder that has"
            ) from error

    def _download(self, name: str) -> bool:
        """Several ranks on a machine have one copy."""
        with self.writing(), FileLock(self.local / ".fetch"):
            return self.folders.download(name, self.local / name)

    def _refuse_shared(self) -> None:
        if self.place.shared:
            raise UserError(f"{self.place.url}: holds the weights of another run; train in another folder")


_opened: dict[str, RunStore] = {}  # by the run's folder; those that train, and the last ones that were read


def find_store(folder: Path) -> RunStore | None:
    """The store of a run's weights; None where they are in its folder."""
    opened = _opened.get(str(folder))
    place = read_weights_at(folder)
    if opened is not None and place == opened.place:
        return opened
    if opened is not None:
        _opened.pop(str(folder)).leave()
    if place is None:
        return None
    others = [name for name, store in _opened.items() if not store.trains]
    for name in others[: max(0, len(others) - _KEPT + 1)]:
        _opened.pop(name).leave()
    _opened[str(folder)] = RunStore(place, trains=False)
    return _opened[str(folder)]


def begin_training(folder: Path) -> None:
    """From now on this process trains the run in `folder`: its copy is shared with the other ranks of this machine."""
    end_training(folder)
    place = read_weights_at(folder)
    if place is not None:
        _opened[str(folder)] = RunStore(place, trains=True)


def end_training(folder: Path) -> None:
    """Training has ended in this process; the machine's copy goes once all ranks are here."""
    opened = _opened.pop(str(folder), None)
    if opened is not None:
        opened.leave()


@atexit.register
def _leave_all() -> None:
    while _opened:
        _opened.popitem()[1].leave()


def local_folder(folder: Path) -> Path:
    """The folder on this machine that has a run's checkpoints, candidates and chosen weights while it trains."""
    store = find_store(folder)
    return folder if store is None else store.local
