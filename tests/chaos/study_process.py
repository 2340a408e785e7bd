"""Commands and studies that processes of their own run. They can be killed with all that they start, each by its id."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

psutil: Any = ray and importlib.import_module("psutil")  # Ray brings it along, importable once Ray is imported

# The same error line as the command line prints. `host` makes the process believe that it is on another machine, where
# the kernel's lock of this one proves nothing, so that only heartbeats decide who holds the study.
RUN = """
import sys
from pathlib import Path
from model.errors import UserError
from study.ledger.lease_file import Machine
from study.runner import Work, run_study
if {host!r}:
    Machine.detect = classmethod(lambda cls: cls({host!r}, "another-boot"))
try:
    code = run_study(Path("study.yaml"), address={address!r}, work=Work("stub_training:train", "stub_training:prepare"))
except UserError as error:
    print(f"error: {{error}}")
    code = 2
sys.exit(code)
"""
PATIENCE = 240.0  # seconds for anything that a busy machine may be slow at


class CommandProcess:
    """A command that runs in a session of its own; its output is in a file in the current folder."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._output = Path(f"output-{time.monotonic_ns()}.txt")
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=os.environ | dict(environment or {})
            )
        self._known: dict[int, Any] = {}

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def list_processes(self, name: str = "") -> list[Any]:
        """The living processes below it whose command has `name`."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._known.setdefault(child.pid, child)
        for process in psutil.process_iter():  # those whose parent is gone still are of the session
            with contextlib.suppress(OSError):
                if os.getsid(process.pid) == self.process.pid != process.pid:
                    self._known.setdefault(process.pid, process)
        return [process for process in self._known.values() if (command := _read_command(process)) and name in command]

    def kill(self) -> None:
        """kill -9 of the study's own process, and of nothing else."""
        self.list_processes()
        self.process.kill()
        self.process.wait()

    def list_commands(self) -> list[str]:
        """The commands of all that still runs of what it started."""
        return [_read_command(process).strip() for process in self.list_processes()]

    def wait_for_end(self, seconds: float = PATIENCE) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {seconds:g} s:\n{self.output}") from None

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed the text."""
        wait_until(lambda: text in self.output, self, f"it never printed {text!r}")

    def close(self) -> None:
        """Kill it and all that it started."""
        left = self.list_processes()
        if self.process.poll() is None:
            self.kill()
        for process in left + self.list_processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


class StudyProcess(CommandProcess):
    """`study.yaml` in the current folder, run by a process of its own."""

    def __init__(self, seconds: float = 0.3, address: str | None = None, host: str = "") -> None:
        """`seconds` is the length of an epoch, `host` the name of the machine that the process believes to be on."""
        command = [sys.executable, "-u", "-c", RUN.format(address=address, host=host)]
        super().__init__(command, {"STUB_SECONDS": str(seconds)})


def wait_until(find: Callable[[], Any], run: CommandProcess, message: str) -> Any:
    """What `find` returns once that is true. An AssertionError with `message` where the command ends before it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := find()):
        assert time.monotonic() < deadline, f"{message}:\n{run.output}"
        has_ended = run.process.poll() is not None and not find()
        assert not has_ended, f"{message}, and ended:\n{run.output}"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def start_study(seconds: float = 0.3, address: str | None = None, host: str = "") -> Iterator[StudyProcess]:
    """Run the study while the block runs; nothing of it is left behind."""
    run = StudyProcess(seconds, address, host)
    try:
        yield run
    finally:
        run.close()


def send_stop_signal(run: CommandProcess, kind: signal.Signals = signal.SIGTERM) -> None:
    """As Ctrl-C, timeout and Slurm do: every process receives it."""
    for pid in [run.process.pid, *(process.pid for process in run.list_processes())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, kind)


def _read_command(process: Any) -> str:
    """Empty where it is gone."""
    with contextlib.suppress(psutil.Error):
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline()) or process.name()
    return ""
