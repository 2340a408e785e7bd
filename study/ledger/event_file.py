"""An append-only file of lines that stays whole when writers crash, the disk is full, or others read it.

Only lines with their line end count. A crash can tear the last one: readers leave it out, the next append cuts it off.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from model.strict import sync_folder

_BACK = 4096  # bytes that are searched at a time for the end of the last whole line


def create(path: Path, first_line: bytes) -> None:
    """Make the file with its first line, durably; a FileExistsError where it is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _write(descriptor, first_line, 0)
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # a full disk needs the space
            path.unlink()
        raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def append(path: Path, line: bytes) -> None:
    """Write a line and wait until it is on the disk; an OSError, as of a full disk, leaves the file as it was."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        end = _cut_torn_line(descriptor)
        try:
            _write(descriptor, line, end)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # if this fails too, the torn line is cut off at the next append
                os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)


def read_lines(path: Path, offset: int = 0, end: int | None = None, most: int | None = None) -> list[bytes]:
    """The whole lines from byte `offset`, where a line begins, to byte `end`, at most `most`; with their line ends."""
    with path.open("rb") as file:
        file.seek(offset)
        if end is not None:
            return list(itertools.islice(_lines_before(file, end), most))
        # Stop at a torn line: its rest may have been written meanwhile, and would look like the next line.
        return list(itertools.takewhile(lambda line: line.endswith(b"\n"), itertools.islice(file, most)))


def _lines_before(file: BinaryIO, end: int) -> Iterator[bytes]:
    """The whole lines to byte `end`."""
    offset = file.tell()
    for line in file:
        offset += len(line)
        if offset > end or not line.endswith(b"\n"):
            return
        yield line


def whole_bytes(path: Path) -> int:
    """The length of the file up to the end of its last whole line."""
    with path.open("rb") as file:
        return _end_of_last_line(file.fileno())


def _cut_torn_line(descriptor: int) -> int:
    """Cut off a torn last line; the length that is left."""
    end = _end_of_last_line(descriptor)
    if end < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, end)
    return end


def _end_of_last_line(descriptor: int) -> int:
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BACK)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _write(descriptor: int, line: bytes, offset: int) -> None:
    while line:  # a disk that is nearly full takes a part first
        written = os.pwrite(descriptor, line, offset)
        line, offset = line[written:], offset + written
