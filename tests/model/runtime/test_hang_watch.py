"""A command's own work that hangs ends with one line that names where."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hanging_training import read_silent_file

from model.errors import UserError
from model.runtime import hang_watch
from model.runtime.hang_watch import Work, end_hanging
from model.runtime.progress import note_progress
from model.runtime.stall import StallWatch

LIMIT = 1.0  # seconds
WORK = Work("the preparation", "--stall-seconds")
UNINTERRUPTED = """
import os, signal
from model.runtime import hang_watch
hang_watch.GRACE_SECONDS = 0.5
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])  # as where the kernel waits for a server and nothing else
with hang_watch.end_hanging(hang_watch.Work("the preparation", "--stall-seconds"), 1.0):
    os.read(os.pipe()[0], 1)
"""


def test_a_read_that_never_returns_is_left_with_an_error_that_names_it_and_keeps_all_stacks(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(UserError) as raised, end_hanging(WORK, LIMIT):
        read_silent_file(tmp_path)
    line = str(raised.value)
    assert re.match(r"the preparation made no progress for \d+ s \(--stall-seconds 1\) in pathlib.py:\d+ in ", line)
    assert line.endswith("then start the same command again, which goes on where it was")
    found = re.search(r"all threads are in (\S+\.txt)\.", line)
    assert found, line
    assert "in read_silent_file" in Path(found[1]).read_text()
    Path(found[1]).unlink()
    assert signal.getsignal(signal.SIGUSR2) == before


@pytest.mark.parametrize(
    ("computes", "expected"), [(True, [False, True, True, False]), (False, [False, True, False, False])]
)
def test_what_was_noted_and_the_use_of_the_cpu_are_progress_until_the_next_look(
    computes: bool, expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, wall = [0.0], [0.0]
    monkeypatch.setattr(hang_watch, "used_cpu", lambda pid: {})
    monkeypatch.setattr(hang_watch, "time", SimpleNamespace(process_time=lambda: cpu[0], monotonic=lambda: wall[0]))
    watcher = hang_watch.Watcher(Work("the preparation", "--stall-seconds", computes), LIMIT)
    found = []
    for used, is_noted in ((0.1, False), (0.0, True), (0.9, False), (0.0, False)):
        cpu[0] += used
        wall[0] += 1.0
        if is_noted:
            watcher.note()
        found.append(watcher.has_progress())
    assert found == expected


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_thread_that_went_on_after_short_waits_has_progress_where_that_counts(goes_on: bool) -> None:
    watcher = hang_watch.Watcher(Work("reading", "--stall-seconds", computes=False, goes_on=goes_on), LIMIT)
    for _ in range(3):  # as a read of a slow server is waited for
        time.sleep(0.01)
    assert watcher.has_progress() is goes_on


def test_the_first_sign_of_progress_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [0.0]

    class Seen(StallWatch):
        def look(self) -> float | None:
            found = super().look()
            silent.append(self._silent)
            return found

    monkeypatch.setattr(hang_watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(hang_watch, "StallWatch", Seen)
    work = Work("training", "--stall-seconds", computes=False, first_seconds=600.0)
    deadline = time.monotonic() + 60.0
    with end_hanging(work, 0.05):
        while silent[-1] <= 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_progress_in_the_block_reaches_its_watcher_and_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang_watch, "LOOK_SECONDS", 0.05)
    noted = []
    note = hang_watch.Watcher.note
    monkeypatch.setattr(hang_watch.Watcher, "note", lambda self: (noted.append(1), note(self)))
    with end_hanging(WORK, 30.0):
        for _ in range(3):
            note_progress()
            time.sleep(0.1)
    assert len(noted) == 3


def test_what_no_error_can_be_raised_in_ends_with_the_same_line_on_stderr() -> None:
    done = subprocess.run([sys.executable, "-c", UNINTERRUPTED], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: the preparation made no progress for ")
    found = re.search(r"all threads are in (\S+\.txt)\.", lines[0])
    assert found, lines[0]
    Path(found[1]).unlink()


def test_without_a_limit_and_in_another_thread_nothing_is_watched() -> None:
    names: list[str] = []

    def work(seconds: float | None) -> None:
        with end_hanging(WORK, seconds):
            names.extend(thread.name for thread in threading.enumerate())

    work(None)
    other = threading.Thread(target=work, args=(LIMIT,))
    other.start()
    other.join()
    assert "hanging" not in names
