"""Folders of files in an object store, each there as a whole or not at all.

checkpoints/epoch-0003/model.safetensors ...   the files, as they are on a disk
checkpoints/epoch-0003/whole.json              the marker: bytes and SHA-256 of each file

The marker is written last and removed first, so a folder whose upload broke off has none. One whose files lack a byte
does not count either; what is downloaded is compared with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from model.weights.object_store import ObjectStore

MARKER = "whole.json"
LOCAL_MARKER = ".whole.json"  # beside the files on this machine: which upload they are
_EPOCH = "epoch-"

Marker = dict[str, dict[str, int | str]]  # file -> bytes, sha256


class StoredFolders:
    """The folders of one run in a store. Only one process may write; any may read."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._known: dict[str, str] = {}  # SHA-256 -> an object that this process has written

    def list_names(self, kind: str) -> list[str]:
        """The names of all folders of a kind, whole or torn, by epoch."""
        return sorted({name.split("/")[0] for name in self.store.sizes(kind) if name.startswith(_EPOCH)})

    def list_whole(self, kind: str) -> list[str]:
        """The names of the whole folders of a kind, by epoch; of a torn one that is newer, a warning is logged."""
        sizes = self.store.sizes(kind)
        names = sorted({name.split("/")[0] for name in sizes if name.startswith(_EPOCH)})
        whole = [name for name in names if self._is_whole(f"{kind}/{name}", name, sizes)]
        for name in names[names.index(whole[-1]) + 1 :] if whole else names:
            logger = logging.getLogger(__name__)
            logger.warning("%s/%s/%s: this upload broke off and is passed over", self.store.url, kind, name)
        return whole

    def read_marker(self, name: str) -> Marker | None:
        """A folder's marker, or None where it has none or a damaged one."""
        content = self.store.read(f"{name}/{MARKER}")
        try:
            files = None if content is None else json.loads(content)["files"]
            return files if isinstance(files, dict) else None
        except (ValueError, LookupError, TypeError):
            return None

    def upload(self, local: Path, name: str) -> None:
        """Write a folder of this machine, unless it came from the store. What was there under its name goes."""
        if _read_local_marker(local) is not None:
            return
        files = sorted(path for path in local.iterdir() if path.is_file() and not path.name.startswith("."))
        marker = {path.name: _describe(path) for path in files}
        self._forget(name)
        self.store.remove([f"{name}/{MARKER}"])
        for path in files:
            self._put(path, f"{name}/{path.name}", str(marker[path.name]["sha256"]))
        self.write_marker(name, marker)
        (local / LOCAL_MARKER).write_text(json.dumps(marker))

    def write_marker(self, name: str, marker: Marker) -> None:
        """From now on the folder is whole."""
        self.store.write(f"{name}/{MARKER}", json.dumps({"files": marker}, indent=1).encode())

    def download(self, name: str, local: Path) -> bool:
        """Have a whole folder on this machine; False where the store has none, or one with another content."""
        marker = self.read_marker(name)
        if marker is None:
            return False
        if _read_local_marker(local) == marker:
            return True
        local.parent.mkdir(parents=True, exist_ok=True)
        draft = local.with_name(f".draft-{local.name}-{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir()
            for file, expected in marker.items():
                if not self.store.download(f"{name}/{file}", draft / file) or _describe(draft / file) != expected:
                    return False
            (draft / LOCAL_MARKER).write_text(json.dumps(marker))
            shutil.rmtree(local, ignore_errors=True)
            os.replace(draft, local)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def remove(self, name: str) -> None:
        """Remove a folder, its marker first."""
        files = [file for file in self.store.sizes(name) if file != MARKER]
        self.store.remove([f"{name}/{file}" for file in (MARKER, *files)])
        self._forget(name)

    def _is_whole(self, name: str, start: str, sizes: dict[str, int]) -> bool:
        marker = self.read_marker(name) if f"{start}/{MARKER}" in sizes else None
        if marker is None:
            return False
        return all(sizes.get(f"{start}/{file}") == entry["bytes"] for file, entry in marker.items())

    def _forget(self, name: str) -> None:
        """Copy nothing from a folder that changes."""
        self._known = {sha: place for sha, place in self._known.items() if not place.startswith(f"{name}/")}

    def _put(self, path: Path, name: str, sha: str) -> None:
        """A candidate's weights are those of its checkpoint, so they need not be sent a second time."""
        known = self._known.get(sha)
        if known is None or known == name or not self.store.copy(known, name):
            self.store.upload(path, name)
        self._known[sha] = name


def describe_content(content: bytes) -> dict[str, int | str]:
    """A file's entry in a marker."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _describe(path: Path) -> dict[str, int | str]:
    with path.open("rb") as stream:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _read_local_marker(local: Path) -> Marker | None:
    try:
        marker: Marker = json.loads((local / LOCAL_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker
