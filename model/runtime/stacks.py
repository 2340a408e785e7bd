"""Where the threads of a process are: the stacks of a worker that hangs, and the line that matters in them.

They are written by `faulthandler`, which needs no lock of the interpreter: also a process whose main thread hangs in C
code answers `SIGUSR1` with them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

STACKS_FILE = "stacks-rank{rank}.txt"  # in the folder of a run
SAVE_SECONDS = 5.0  # for a folder that may be what hangs
FILE_PREFIX = "decred-stacks-"  # of the file that a process writes into, by which others find it
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)")
_NAME = re.compile(r"^# (0x[0-9a-f]+) (.*)$")
_TRAINS = "trains"  # in place of a thread's name, of the one that trains
_READS = "reading"  # how the names of threads begin that read data for it
_WAITS = ("threading.py", "queue.py", "concurrent/futures/", "multiprocessing/", "selectors.py")
_TOGETHER = ("torch/distributed/", "torch/autograd/")  # DDP waits for the gradients' sums in the backward pass
_OWN = ("model", "study", "cluster")
CHILD = "== process {pid} ({name}), started by {parent}: {state}"  # before what a child process has written
_CHILD = re.compile(r"^== process (\d+) .*$", re.MULTILINE)


class Frame(NamedTuple):
    """A line of a stack: a path from the package on, its number and its function."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} in {self.function}"


def dump_stacks(trains: int | None) -> str:
    """The stacks of all threads of this process, the innermost line first; `trains` is the thread that trains."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    if trains is not None:
        names[trains] = _TRAINS
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        content = file.read().decode(errors="replace")
    header = "".join(f"# {ident:#018x} {name}\n" for ident, name in names.items() if ident is not None)
    return header + content


def answer_signal() -> str:
    """Have this process write its stacks into a file whenever `SIGUSR1` comes; the file's path."""
    descriptor, path = tempfile.mkstemp(prefix=FILE_PREFIX)
    os.unlink(path)  # a worker may be killed at any time, and would leave it behind
    faulthandler.register(signal.SIGUSR1, descriptor, all_threads=True)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def request_stacks(pid: int, path: str) -> str | None:
    """Have another process of this machine write its stacks, with `answer_signal`; None where it cannot.

    The file is there a moment later. A process that does not answer the signal would be ended by it, and gets none.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return "its process is gone"
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if fields["State"].strip().startswith(("Z", "X")):  # it has ended, and its starter has not asked how
        return "its process is gone"
    if fields["State"].strip().startswith("T"):
        return "its process is stopped (SIGSTOP)"
    if not int(fields["SigCgt"], 16) >> (signal.SIGUSR1 - 1) & 1 or not Path(path).is_file():
        return "its process does not answer"
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
    return None


def find_place(stacks: str) -> str | None:
    """Where the thread that trains is, in one line; while that waits, the thread or the process that works for it."""
    own, children = _split_processes(stacks)
    threads, names = parse_stacks(own)
    trains = next((ident for ident, name in names.items() if name == _TRAINS), None)
    stack = threads.get(trains, []) if trains else []
    if stack and stack[0].path.startswith(_WAITS):
        readers = [threads[ident] for ident, name in names.items() if name.startswith(_READS) and ident in threads]
        stack = next((reader for reader in readers if not reader[0].path.startswith(_WAITS)), stack)
    if stack and stack[0].path.startswith(_WAITS):
        for pid, content in children:
            if (working := _find_working(content)) is not None:
                return f"{describe_stack(working)}, in its process {pid}"
    return describe_stack(stack)


def waits_for_others(place: str | None) -> bool:
    """Whether a place that `find_place` found is in what all ranks do together."""
    return place is not None and place.startswith(_TOGETHER)


def _split_processes(stacks: str) -> tuple[str, list[tuple[int, str]]]:
    """A process' own stacks, and those of each process below it."""
    own, *rest = _CHILD.split(stacks)
    return own, [(int(pid), content) for pid, content in zip(rest[::2], rest[1::2], strict=True)]


def _find_working(stacks: str) -> list[Frame] | None:
    """The stack of a thread of a child process that is in this project's code, and waits for no other one."""
    threads, _ = parse_stacks(stacks)
    for stack in threads.values():
        if stack and not stack[0].path.startswith(_WAITS) and _find_own(stack) is not None:
            return stack
    return None


def describe_stack(stack: Sequence[Frame]) -> str | None:
    """The innermost line, and the innermost one of this project where that is another."""
    if not stack:
        return None
    own = _find_own(stack)
    return str(stack[0]) if own in (None, stack[0]) else f"{stack[0]}, called at {own}"


def _find_own(stack: Sequence[Frame]) -> Frame | None:
    return next((frame for frame in stack if frame.path.split("/")[0] in _OWN), None)


def parse_stacks(stacks: str) -> tuple[dict[str, list[Frame]], dict[str, str]]:
    """The stack of each thread, and the names of threads, by the threads' ids; the last one written counts."""
    threads: dict[str, list[Frame]] = {}
    names: dict[str, str] = {}
    current: list[Frame] = []
    for line in stacks.splitlines():
        if found := _THREAD.match(line):
            current = threads[found[1]] = []
        elif found := _FRAME.match(line):
            current.append(Frame(_shorten(found[1]), int(found[2]), found[3]))
        elif found := _NAME.match(line):
            names[found[1]] = found[2]
    return threads, names


def save_stacks(folder: Path, stacks: Mapping[int, str]) -> list[Path]:
    """Write each rank's stacks into a folder; the files, none where the folder does not answer within seconds."""
    written: list[Path] = []

    def write() -> None:
        for rank, content in sorted(stacks.items()):
            path = folder / STACKS_FILE.format(rank=rank)
            with contextlib.suppress(OSError):
                path.write_text(content, encoding="utf-8")
                written.append(path)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(SAVE_SECONDS)
    return list(written)


def _shorten(path: str) -> str:
    """The path from the installed package, or from one of this project's, on."""
    for root in ("site-packages/", f"python{sys.version_info.major}.{sys.version_info.minor}/"):
        if root in path:
            return path.rpartition(root)[2]
    parts = Path(path).parts
    starts = [index for index, part in enumerate(parts) if part in _OWN]
    return "/".join(parts[starts[-1] :]) if starts else path
