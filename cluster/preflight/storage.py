"""Whether a folder is the same one on all nodes: the head writes a marker that each node reads, and each node one.

The markers lie in a folder of their own, which the head makes with the permissions that a study's folder gets, and
removes in the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.preflight.facts import Request, Storage

SEEN_SECONDS = 5.0  # for what a node wrote to be seen by the head; NFS shows new names at once
HEAD_MARKER = "head"


@dataclass(frozen=True)
class Probe:
    """The folder with the markers, and what the head's holds."""

    folder: Path
    token: str

    def read_back(self, node_id: str, storage: Storage) -> Storage:
        """What a node saw, with whether the head sees what the node wrote."""
        if storage.fault is not None or not storage.has_marker:
            return storage
        marker, deadline = self.folder / node_id, time.monotonic() + SEEN_SECONDS
        while not (is_seen := read_marker(marker) == self.token + node_id) and time.monotonic() < deadline:
            time.sleep(0.2)
        return replace(storage, is_seen=is_seen)


@contextlib.contextmanager
def open_probe(storage: str) -> Iterator[Probe]:
    """A new folder in the storage with the head's marker, for the time of the block."""
    token = uuid.uuid4().hex
    folder = Path(storage, f".preflight-{uuid.uuid4().hex[:12]}")
    try:
        with contextlib.suppress(OSError):  # the process that looks at the head finds out why
            folder.mkdir()
            write_marker(folder / HEAD_MARKER, token)
        yield Probe(folder, token)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def look_at_storage(request: Request, node_id: str) -> Storage:
    """What this node sees of the storage, after it has tried to write its own marker beside the head's."""
    assert request.storage is not None
    if not Path(request.storage).is_dir():
        return Storage(is_folder=False)
    mount, folder = find_mount(request.storage), Path(request.probe)
    has_marker = read_marker(folder / HEAD_MARKER) == request.token
    try:
        if has_marker:
            write_marker(folder / node_id, request.token + node_id)
        else:
            with tempfile.TemporaryFile(dir=request.storage):
                pass
    except OSError as error:
        return Storage(True, mount, has_marker, f"{error.strerror or error} for user {os.getuid()}")
    return Storage(True, mount, has_marker)


def find_mount(folder: str) -> str:
    """The file system that holds a folder: its type, what is mounted, and where; empty where the system has no list."""
    try:
        lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    path = Path(os.path.realpath(folder))
    found = [words for words in lines if len(words) > 2 and path.is_relative_to(_unescape(words[1]))]
    # Of two at the same place the later one covers the other.
    source, place, kind = max(reversed(found), key=lambda words: len(words[1]), default=("", "", ""))[:3]
    return f"{kind} {_unescape(source)} on {_unescape(place)}" if kind else ""


def _unescape(word: str) -> str:
    """The kernel writes spaces and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def write_marker(file: Path, content: str) -> None:
    """Write a file that others see at once."""
    with file.open("x", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def read_marker(file: Path) -> str | None:
    """The content of a marker; None where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
