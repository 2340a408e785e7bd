"""One driver at a time, with real processes; another machine is a process that says it is on one."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import UserError
from study.ledger import lease as lease_module
from study.ledger.lease import LEASE, LEASE_SECONDS, held, holder_of, refuse_if_running
from study.ledger.lease_file import Machine, lease_holder

ROOT = Path(__file__).parents[3]
EVERY = 0.1
HOLDS = """
import sys
from pathlib import Path
from study.ledger.lease import held
from study.ledger.lease_file import Machine
folder, host = Path(sys.argv[1]), sys.argv[2]
with held(folder, machine=Machine(host, "boot-of-" + host) if host else None, every=0.1) as lease:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            lease.check()
            (folder / "written").write_text(line)
            print("written", flush=True)
        except Exception as error:
            print(error, flush=True)
"""


@contextlib.contextmanager
def holder(folder: Path, host: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder, and writes when it gets a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert told(process) == "held"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def asked(process: subprocess.Popen[str]) -> str:
    """What it says when it is to write."""
    assert process.stdin is not None
    process.stdin.write("a line\n")
    process.stdin.flush()
    return told(process)


@contextlib.contextmanager
def without_locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refused(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(lease_module.fcntl, "flock", refused)
        yield


def test_a_second_driver_is_refused_at_once_while_the_first_lives(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        began = time.monotonic()
        for entered in (lambda: held(tmp_path).__enter__(), lambda: refuse_if_running(tmp_path)):
            with pytest.raises(
                UserError, match=rf"{tmp_path} is being run by process {first.pid} on \S+; wait until it ends, or stop"
            ):
                entered()
        assert time.monotonic() - began < 2


def test_a_killed_driver_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert (tmp_path / LEASE).exists()
        began, said = time.monotonic(), list[str]()
        refuse_if_running(tmp_path, said.append)
        with held(tmp_path, said.append):
            assert time.monotonic() - began < 1
    assert said == []


def test_a_driver_that_ended_leaves_no_lease(tmp_path: Path) -> None:
    with held(tmp_path) as ours:
        assert lease_holder(tmp_path) == ours.holder
        ours.check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_living_driver_of_another_machine_is_named_with_the_time_it_took_to_know(tmp_path: Path) -> None:
    said: list[str] = []
    with holder(tmp_path, "away") as first:
        for entered in (lambda: held(tmp_path, said.append).__enter__(), lambda: refuse_if_running(tmp_path)):
            with pytest.raises(
                UserError,
                match=rf"is being run by process {first.pid} on away, which gave a sign of life after 0.\d s of "
                "waiting; wait until it ends, or stop it first",
            ):
                entered()
        assert asked(first) == "written", "it is not disturbed"
        assert said == [
            f"waiting up to {LEASE_SECONDS:g} s to see whether process {first.pid} on away still runs the study in "
            f"{tmp_path}"
        ]


@pytest.mark.parametrize("locks", [True, False])
def test_a_dead_driver_of_another_machine_is_followed_when_its_beat_is_missed_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    with holder(tmp_path, "away") as first:
        first.kill()
    with contextlib.nullcontext() if locks else without_locks(monkeypatch):
        refuse_if_running(tmp_path)
        began = time.monotonic()
        with held(tmp_path, seconds=0.5, every=EVERY) as ours:
            assert 0.5 < time.monotonic() - began < 3
            ours.check()


def test_without_kernel_locks_the_beat_decides_on_one_machine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with without_locks(monkeypatch), held(tmp_path, every=EVERY):
        with pytest.raises(UserError, match=rf"process {os.getpid()} on \S+, which gave a sign of life"):
            held(tmp_path).__enter__()
        with pytest.raises(UserError, match="which gave a sign of life"):
            refuse_if_running(tmp_path)


def test_a_frozen_driver_that_was_followed_writes_nothing_when_it_wakes(tmp_path: Path) -> None:
    with holder(tmp_path, "away") as first:
        os.kill(first.pid, signal.SIGSTOP)
        with held(tmp_path, seconds=0.5, every=EVERY) as ours:
            os.kill(first.pid, signal.SIGCONT)
            assert asked(first) == (
                f"the study in {tmp_path} was taken over by process {os.getpid()} on {ours.holder.machine.host} while "
                "this one did not answer; nothing more is written from here: let that one go on, or stop it and run "
                "the study again"
            )
            time.sleep(3 * EVERY)  # its beats go into a file that has no name any more
            ours.check()
            assert first.stdin is not None
            first.stdin.close()
            first.wait()
            assert lease_holder(tmp_path) == ours.holder, "nor does its end remove what is not its own"
        assert not (tmp_path / "written").exists()


def test_a_driver_that_gives_the_study_back_while_another_waits_is_followed_then(tmp_path: Path) -> None:
    with holder(tmp_path, "away") as first:
        os.kill(first.pid, signal.SIGSTOP)
        freed = threading.Timer(0.3, (tmp_path / LEASE).unlink)
        freed.start()
        began = time.monotonic()
        with held(tmp_path, seconds=30, every=EVERY):
            assert time.monotonic() - began < 5


def test_a_folder_without_a_driver_is_refused_nobody_and_left_as_it_is(tmp_path: Path) -> None:
    refuse_if_running(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_who_holds_a_study_is_seen_at_once_and_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with held(tmp_path) as lease:
        seen = holder_of(tmp_path)
        assert seen is not None
        assert seen.id == lease.holder.id
        left = (tmp_path / "lease.json").read_bytes()
    assert holder_of(tmp_path) is None
    (tmp_path / "lease.json").write_bytes(left)
    assert holder_of(tmp_path) is None, "the lock is free, so the process that wrote this is dead"
    assert holder_of(tmp_path, Machine("elsewhere", "another boot")) is not None
