"""One run at a time in a study's folder: the lock is the kernel's, so that it ends with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from model.errors import UserError

LOCK = "lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the study folder, made if it is missing; a UserError that names the holder where another run has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from None
    with stream:
        _take(stream.fileno(), folder)
        stream.truncate(0)
        stream.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        stream.flush()
        yield


def refuse_if_running(folder: Path) -> None:
    """A UserError where another run holds the folder; nothing is made or kept."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), (folder / LOCK).open(encoding="utf-8") as stream:
        _take(stream.fileno(), folder, shared=True)


def unwritable(folder: Path, error: OSError) -> UserError:
    """The one line for a study folder that cannot be written."""
    return UserError(
        f"study folder {folder} cannot be written ({error.strerror or error}); "
        "make it writable or set 'storage' to another folder"
    )


def _take(descriptor: int, folder: Path, shared: bool = False) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"study folder {folder} is being run by {_holder(folder)}; wait until it ends, or stop it first"
        ) from None
    except OSError:  # a file system without locks: nobody can be kept out
        return


def _holder(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    return "another process"
