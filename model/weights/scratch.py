"""Folders on a machine's own disk for weights that are kept in an object store.

A process that uses such a folder holds a shared lock on it, which ends with the process however that ends. Whoever
leaves it last removes it, and whoever makes one removes those that killed processes left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from model.errors import UserError

_LOCK = ".lock"  # behind the folder's name


class Scratch:
    """A folder that is this process's own, or shared with the processes of this machine that train the same run."""

    def __init__(self, key: str, shared: bool) -> None:
        """`key` says what it is for, such as a URL; where it is `shared`, what a killed process left is kept."""
        base = _make_base()
        name = hashlib.sha256(key.encode()).hexdigest()[:16] + ("" if shared else f"-{os.getpid()}")
        self.folder, self._lock_file = base / name, base / (name + _LOCK)
        self._lock: IO[str] | None = None
        while self._lock is None:
            self._lock = _lock_existing(self._lock_file, fcntl.LOCK_SH)
        _remove_abandoned(base)
        self.folder.mkdir(exist_ok=True)

    def leave(self) -> None:
        """This process needs it no more; it is removed unless another process does."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            _remove_unless_used(self._lock_file)


def _make_base() -> Path:
    """The folder of this user's scratch folders, where TMPDIR has it; a UserError where it is another user's."""
    base = Path(tempfile.gettempdir()) / f"decred-weights-{os.getuid()}"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = base.stat().st_uid == os.getuid()
    except OSError as error:
        raise UserError(
            f"{base}: cannot be made ({error.strerror}); set TMPDIR to a folder on this machine's own disk"
        ) from error
    if not is_ours:
        raise UserError(f"{base}: belongs to another user; remove it, or set TMPDIR to another folder")
    return base


def _lock_existing(path: Path, kind: int) -> IO[str] | None:
    """The locked file; None where another process has the lock, or has removed the file meanwhile."""
    stream = path.open("a")
    try:
        fcntl.flock(stream, kind if kind == fcntl.LOCK_SH else kind | fcntl.LOCK_NB)
        if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
            return stream
    except OSError:
        pass
    stream.close()
    return None


def _remove_abandoned(base: Path) -> None:
    for lock_file in base.glob(f"*{_LOCK}"):
        with contextlib.suppress(OSError):
            _remove_unless_used(lock_file)


def _remove_unless_used(lock_file: Path) -> None:
    lock = _lock_existing(lock_file, fcntl.LOCK_EX)
    if lock is not None:
        shutil.rmtree(lock_file.with_name(lock_file.name.removesuffix(_LOCK)), ignore_errors=True)
        lock_file.unlink(missing_ok=True)
        lock.close()
