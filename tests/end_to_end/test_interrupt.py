"""Ctrl-C or SIGTERM on a real process with an embedded Ray: it stops, leaves no process, and can be continued."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from waiting import wait_for

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
sys.exit(run_study(Path("study.yaml"), work=Work("stub_training:train", "stub_training:prepare")))
"""
STOP_SECONDS = 20.0  # about 5 on a quiet machine


@pytest.mark.slow
@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_stops_a_study_within_seconds_and_the_same_trial_continues(
    stop_signal: signal.Signals, ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(recipe={"base": "tiny", "set": {"training.epochs": 6}}, trials=0)
    mark = uuid.uuid4().hex
    process = _start(mark, seconds="1")
    _read_until(process, "epoch 2/6")
    start = time.monotonic()
    for pid in {process.pid, *_find_processes(mark)}:  # Ctrl-C, timeout and Slurm signal every process
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130, out
    assert time.monotonic() - start < STOP_SECONDS
    assert "Continue with: decred-study run study.yaml" in out
    assert "Traceback" not in out
    wait_for(lambda: not _list_commands(mark), STOP_SECONDS)
    ledger = Ledger.open(Path("studies/probe"))
    assert ledger.trials[0].state is TrialState.INTERRUPTED

    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "trial 0000 continues" in printed
    assert "epoch 1/6" not in printed, "it started again instead of continuing"
    trials = Ledger.open(ledger.folder).trials
    assert list(trials) == [0]
    assert trials[0].state is TrialState.COMPLETE
    assert [report.epoch for report in trials[0].epochs] == [1, 2, 3, 4, 5, 6]


def _start(mark: str, seconds: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"STUB_MARK": mark, "STUB_SECONDS": seconds},
    )


def _read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


def _list_commands(mark: str) -> list[str]:
    """The commands of processes that inherited the mark and still run."""
    commands = []
    for pid in _find_processes(mark):
        with contextlib.suppress(OSError):
            commands.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return commands


def _find_processes(mark: str) -> list[int]:
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                pids.append(int(folder.name))
    return pids
