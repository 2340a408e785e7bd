"""A study run by a process of its own, which can be killed with everything that it started, each by its id."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray

from study.ledger.ledger import EVENTS, STUDY, Ledger

psutil: Any = ray and importlib.import_module("psutil")  # Ray brings it along, importable once Ray is imported

RUN = """
import sys
from pathlib import Path
from model.errors import UserError
from study.runner import Work, run_study
try:
    code = run_study(Path("study.yaml"), address={address!r}, work=Work("stub_training:train", "stub_training:prepare"))
except UserError as error:  # as the command line says it
    print(f"error: {{error}}")
    code = 2
sys.exit(code)
"""
PATIENCE = 240.0  # seconds for anything that a busy machine may be slow at


class Driven:
    """`study.yaml` in the current folder, run by a process of its own."""

    def __init__(self, seconds: float = 0.3, address: str | None = None) -> None:
        """`seconds` is the length of an epoch."""
        self._output = Path(f"output-{time.monotonic_ns()}.txt")
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", RUN.format(address=address)],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=os.environ | {"STUB_SECONDS": str(seconds)},
            )
        self._seen: dict[int, Any] = {}

    @property
    def said(self) -> str:
        return self._output.read_text()

    def started(self, name: str = "") -> list[Any]:
        """The living processes below it whose command has `name`."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._seen.setdefault(child.pid, child)
        for process in psutil.process_iter():  # those whose parent is gone still are of the session
            with contextlib.suppress(OSError):
                if os.getsid(process.pid) == self.process.pid != process.pid:
                    self._seen.setdefault(process.pid, process)
        return [process for process in self._seen.values() if (command := _command(process)) and name in command]

    def kill(self) -> None:
        """kill -9 of the study's own process, and of nothing else."""
        self.started()
        self.process.kill()
        self.process.wait()

    def left(self) -> list[str]:
        """The commands of all that still runs of what it started."""
        return [_command(process).strip() for process in self.started()]

    def ends(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {seconds:g} s:\n{self.said}") from None

    def waits_for(self, words: str) -> None:
        """Until it has printed them."""
        until(lambda: words in self.said, self, f"it never said {words!r}")

    def clean(self) -> None:
        """Nothing of it is left."""
        left = self.started()
        if self.process.poll() is None:
            self.kill()
        for process in left + self.started():
            with contextlib.suppress(psutil.Error):
                process.kill()


def until(done: Callable[[], Any], driven: Driven, what: str) -> Any:
    """Look again and again, as long as the study runs; what `done` found."""
    deadline = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < deadline, f"{what}:\n{driven.said}"
        ended = driven.process.poll() is not None and not done()
        assert not ended, f"{what}, and ended:\n{driven.said}"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def driven(seconds: float = 0.3, address: str | None = None) -> Iterator[Driven]:
    """Run the study for the time of the block; nothing of it is left behind it."""
    run = Driven(seconds, address)
    try:
        yield run
    finally:
        run.clean()


def events(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """What the ledger tells so far, of one kind or of all."""
    if not (folder / STUDY).exists() or not (folder / EVENTS).exists():
        return []
    return [event for event in Ledger.open(folder).events() if kind in ("", event["kind"])]


def went_on(reported: list[int]) -> bool:
    """Whether epochs were reported in their order; one whose report did not return is reported again after a loss."""
    return reported[0] == 1 and all(later - earlier in (0, 1) for earlier, later in pairwise(reported))


def stop_signal(run: Driven, kind: signal.Signals = signal.SIGTERM) -> None:
    """As Ctrl-C, timeout and Slurm do: every process gets it."""
    for pid in [run.process.pid, *(process.pid for process in run.started())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, kind)


def _command(process: Any) -> str:
    """Empty where it is gone."""
    with contextlib.suppress(psutil.Error):
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline()) or process.name()
    return ""
