"""A model of a disk that keeps no more than POSIX promises: content of synced files, names in synced folders.

Real file systems keep more: a sync of any file makes ext4 and XFS keep all names of before. What passes here does not
depend on that.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

Names = dict[str, int]  # of a folder: name -> inode
_CHANGES = ("fsync", "pwrite", "replace", "unlink", "mkdir", "rmdir", "ftruncate", "link")


class PosixDisk:
    """Follows what is synced below a folder, and makes what a power cut may leave of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._contents: dict[int, bytes] = {}  # of files, by inode, as they were synced
        self._names: dict[int, Names] = {}  # of folders
        self._is_restoring = False
        self._held: list[int] = []  # removed files stay open, so that their inodes are not used again

    @contextlib.contextmanager
    def follow(self, before_change: Callable[[], object] = lambda: None) -> Iterator[None]:
        """While the block runs, follow each sync, and call `before_change` where the power could be cut: before each
        change of the disk and each sync."""
        self._before_change = before_change
        with contextlib.ExitStack() as stack:
            for name in _CHANGES:
                stack.enter_context(mock.patch.object(os, name, self._follow(name, getattr(os, name))))
            yield

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def restore(self, target: Path, chance: random.Random | None = None) -> None:
        """Write into `target`, a new folder, what a power cut may leave: what was synced, and of the rest each content
        and each name or not, as `chance` has it; None where nothing of it was written back."""
        self._is_restoring = True
        try:
            self._restore_folder(self.root, os.stat(self.root).st_ino, target, chance)
        finally:
            self._is_restoring = False

    def _follow(self, name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **named: Any) -> Any:
            if self._is_restoring:
                return change(*arguments, **named)
            self._before_change()
            if name == "fsync":
                self._note_sync(arguments[0])
                return None  # the model alone keeps it: a real sync would take most of the test's time
            if name in ("replace", "unlink"):
                with contextlib.suppress(OSError):
                    self._held.append(os.open(arguments[-1], os.O_RDONLY, dir_fd=named.get("dir_fd")))
            return change(*arguments, **named)

        return changed

    def _note_sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._names[status.st_ino] = _read_names(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        else:
            self._contents[status.st_ino] = _read_content(Path(f"/proc/self/fd/{descriptor}"))

    def _restore_folder(self, now: Path | None, inode: int, target: Path, chance: random.Random | None) -> None:
        """`now` is where the folder was when the power was cut; None where it was removed."""
        target.mkdir()
        synced, written = self._names.get(inode, {}), _read_names(now) if now is not None else {}
        for name in synced.keys() | written.keys():
            is_written_back = chance is not None and chance.random() < 0.5
            child = (written if is_written_back else synced).get(name)
            if child is None:
                continue
            place = now / name if now is not None and written.get(name) == child else None
            if child in self._names or (place is not None and place.is_dir()):
                self._restore_folder(place, child, target / name, chance)
            else:
                (target / name).write_bytes(self._restore_content(child, place, chance))

    def _restore_content(self, inode: int, place: Path | None, chance: random.Random | None) -> bytes:
        synced = self._contents.get(inode, b"")
        if place is None or chance is None or chance.random() < 0.5:
            return synced
        written = place.read_bytes()
        return written[: chance.choice((len(written), chance.randint(min(len(synced), len(written)), len(written))))]


def _read_names(folder: Path) -> Names:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


def _read_content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read()
