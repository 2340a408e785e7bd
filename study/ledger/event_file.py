"""An append-only file of events, one JSON object a line: crashes, full disks and readers at any moment leave it whole.

Only lines with their line end count. A crash can tear the last one: readers leave it out, the next append cuts it off.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError

_BACK = 4096  # bytes that are searched at a time for the end of the last whole line

Event = dict[str, Any]


def create(path: Path) -> None:
    """Make the file where it is missing, and its name durable."""
    with path.open("ab") as file:
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot do so to a folder
            os.fsync(folder)
    finally:
        os.close(folder)


def append(path: Path, event: Mapping[str, Any]) -> None:
    """Write one event and wait until it is on the disk; an OSError, as of a full disk, leaves the file as it was."""
    line = json.dumps(_finite(event), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        end = _whole_lines(descriptor)
        try:
            _write(descriptor, line, end)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # if this fails too, the torn line is cut off at the next append
                os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Event]:
    """Every whole event; a damaged line is a UserError with its number."""
    return _parsed(path, path.read_bytes().split(b"\n")[:-1], 1)


def read_since(path: Path, offset: int, most: int | None = None) -> tuple[list[Event], int]:
    """The whole events behind byte `offset`, where a line begins, at most `most`, and the offset behind the last."""
    with path.open("rb") as file:
        file.seek(offset)
        # Not one line further than a torn one: while it was looked at, its rest may have come.
        lines = list(itertools.takewhile(lambda line: line.endswith(b"\n"), itertools.islice(file, most)))
    if not lines:
        return [], offset
    first = 1 if offset == 0 else None
    return _parsed(path, lines, first, offset), offset + sum(len(line) for line in lines)


def damaged(path: Path, number: int) -> UserError:
    """The one line for an event that cannot be what was written."""
    return UserError(f"{path}: line {number} is damaged; restore the file or remove the line")


def _parsed(path: Path, lines: list[bytes], first: int | None, offset: int = 0) -> list[Event]:
    """`first` is the number of the first line; None: the lines before byte `offset` have to be counted."""
    events: list[Event] = []
    for i, line in enumerate(lines):
        event = _event(line)
        if event is None:
            number = i + (first if first is not None else path.read_bytes()[:offset].count(b"\n") + 1)
            raise damaged(path, number)
        events.append(event)
    return events


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def _whole_lines(descriptor: int) -> int:
    """The length of the file without a torn last line, to which it is cut."""
    size = end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BACK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _write(descriptor: int, line: bytes, offset: int) -> None:
    while line:  # a disk that is nearly full takes a part first
        written = os.pwrite(descriptor, line, offset)
        line, offset = line[written:], offset + written


def _finite(value: Any) -> Any:
    """JSON knows no NaN: such a number is written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
