"""The processes that a process has started: which there are, the CPU that they use, and where their threads are.

Readers of data and workers of a preparation hang as their starter does, which then only waits for them. Linux lists
them in /proc; elsewhere there seem to be none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from model.runtime.stacks import CHILD, FILE_PREFIX, request_stacks

ANSWER_SECONDS = 2.0  # for all of them to write where they are
MOST = 64  # of which the stacks are taken
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Child(NamedTuple):
    """A process below another one: its id, its name and its starter's id."""

    pid: int
    name: str
    parent: int


def list_children(pid: int) -> Iterator[Child]:
    """All processes below `pid`, starters before those that they started."""
    for child in _read_children(pid):
        if (name := _read_name(child)) is not None:
            yield Child(child, name, pid)
            yield from list_children(child)


def used_cpu(pid: int) -> dict[int, float]:
    """The CPU seconds that each process below `pid` has used so far."""
    used = {}
    for child in list_children(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            used[child.pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def dump_children(pid: int, seconds: float | None = None) -> str:
    """The stacks of all processes below `pid` on this machine, or of each why it has none; empty where there are none.

    Those answer that called `answer_signal`.
    """
    return dump_processes(list(list_children(pid))[:MOST], seconds)


def dump_processes(children: Sequence[Child], seconds: float | None = None) -> str:
    """The same of these processes."""
    waiting: dict[int, tuple[str, int]] = {}  # pid -> its file, and how long that was before
    states: dict[int, str] = {}
    for child in children:
        file = _find_file(child.pid)
        length = _length(file)
        why = request_stacks(child.pid, file)
        if why is None:
            waiting[child.pid] = file, length
        else:
            states[child.pid] = why
    written = _gather(waiting, ANSWER_SECONDS if seconds is None else seconds)
    lines = []
    for child in children:
        content = written.get(child.pid)
        state = states.get(child.pid) or ("its stacks" if content else "it does not answer")
        lines += [CHILD.format(pid=child.pid, name=child.name, parent=child.parent, state=state), content or ""]
    return "\n".join(["", *lines]) if lines else ""


def end_answering(pid: int) -> None:
    """Kill the processes below `pid` that say where they are when they are asked: those that do parts of its work."""
    for child in list(list_children(pid)):
        if _find_file(child.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child.pid, signal.SIGKILL)


def _gather(waiting: dict[int, tuple[str, int]], seconds: float) -> dict[int, str]:
    """What has been written, once nothing more is, or the time is over."""
    deadline, lengths = time.monotonic() + seconds, dict[int, int]()
    while time.monotonic() < deadline:
        time.sleep(0.1)
        before, lengths = lengths, {pid: _length(file) for pid, (file, _) in waiting.items()}
        if lengths == before and all(lengths[pid] > length for pid, (_, length) in waiting.items()):
            break
    written = {}
    for pid, (file, length) in waiting.items():
        with contextlib.suppress(OSError), open(file, "rb") as stream:
            stream.seek(length)
            written[pid] = stream.read().decode(errors="replace")
    return {pid: content for pid, content in written.items() if content}


def _read_children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in path.read_text(encoding="utf-8").split()]
    return sorted(found)


def _read_name(pid: int) -> str | None:
    """The name of a process; None where it has ended."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    before, _, after = content.rpartition(")")
    return None if after.split()[:1] == ["Z"] else before.partition("(")[2]


def _find_file(pid: int) -> str:
    """What a process writes its stacks into; empty where it does not."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.basename(os.readlink(link)).startswith(FILE_PREFIX):
                    return str(link)
    return ""


def _length(file: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(file).st_size
    return 0
