"""A preparation in a process of its own that dies by kill -9 before a chosen one of its steps: changes on the disk."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing import Queue
from pathlib import Path
from typing import Any
from unittest import mock

from processes import FORKSERVER, SECONDS

from model.corpora import parts
from study.cli import main as cli

# What Python announces before it changes names on a disk. A rename is announced as such also by `os.replace`.
STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
SEGMENTS = 2  # in a part


def prepare_in_process(arguments: list[str], folder: Path, kill_at: int | None = None) -> tuple[int, int]:
    """The exit code of `decred-study prepare`, and how many steps it took in `folder`.

    With `kill_at` it dies by SIGKILL before that step, counted from 0.
    """
    counts: Queue[int] = FORKSERVER.Queue()
    process = FORKSERVER.Process(target=_run, args=(arguments, folder, kill_at, counts), daemon=True)
    process.start()
    process.join(SECONDS)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, 0 if process.exitcode < 0 else counts.get(timeout=SECONDS)


def _run(arguments: list[str], folder: Path, kill_at: int | None, counts: Queue[int]) -> None:
    steps = 0

    def count(event: str, values: tuple[Any, ...]) -> None:
        nonlocal steps
        if _changes(event, values, folder):
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

    sys.addaudithook(count)
    with mock.patch.object(parts, "SEGMENTS", SEGMENTS), mock.patch.object(sys, "argv", ["decred-study", *arguments]):
        try:
            cli.main()
        finally:
            counts.put(steps)


def _changes(event: str, values: tuple[Any, ...], folder: Path) -> bool:
    """Whether an event changes what is in a folder: a name is made, moved or removed, or a file is written."""
    if event == "open":
        path, _, flags = values
        return isinstance(path, str | os.PathLike) and bool(flags & os.O_CREAT) and _is_inside(os.fspath(path), folder)
    if event in ("os.remove", "os.rmdir") and values[1] != -1:  # relative to an open folder, as in rmtree
        return _is_inside(f"{os.readlink(f'/proc/self/fd/{values[1]}')}/{values[0]}", folder)
    return event in STEPS and _is_inside(os.fspath(values[0]), folder)


def _is_inside(path: str, folder: Path) -> bool:
    return path.startswith(f"{folder}/")
