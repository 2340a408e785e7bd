"""One driver at a time, with real processes; another machine is a process with another host name."""

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
from study.ledger.lease import LEASE, LEASE_SECONDS, find_living_holder, hold_lease, refuse_if_running
from study.ledger.lease_file import Machine, read_holder

ROOT = Path(__file__).parents[3]
INTERVAL = 0.1
PATIENT_INTERVAL = 1.0  # where the next heartbeat must come within three intervals, however busy the disk is
HOLDER = """
import sys
from pathlib import Path
from study.ledger.lease import hold_lease
from study.ledger.lease_file import Machine
folder, host = Path(sys.argv[1]), sys.argv[2]
machine, interval = Machine(host, "boot-of-" + host) if host else None, float(sys.argv[3])
with hold_lease(folder, machine=machine, interval=interval) as lease:
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
def hold(folder: Path, host: str = "", interval: float = INTERVAL) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder, and writes when it gets a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), host, str(interval)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert read_line(process) == "held"
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def request_write(process: subprocess.Popen[str]) -> str:
    """What the process prints when it is asked to write."""
    assert process.stdin is not None
    process.stdin.write("a line\n")
    process.stdin.flush()
    return read_line(process)


@contextlib.contextmanager
def without_locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(lease_module.fcntl, "flock", refuse)
        yield


def test_a_second_driver_is_refused_at_once_while_the_first_lives(tmp_path: Path) -> None:
    printed: list[str] = []  # a line before each wait
    with hold(tmp_path) as first:
        for enter in (
            lambda: hold_lease(tmp_path, printed.append).__enter__(),
            lambda: refuse_if_running(tmp_path, printed.append),
        ):
            with pytest.raises(
                UserError, match=rf"{tmp_path} is being run by process {first.pid} on \S+; wait until it ends, or stop"
            ):
                enter()
    assert printed == []


def test_a_killed_driver_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    with hold(tmp_path) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert (tmp_path / LEASE).exists()
        printed: list[str] = []  # a line before each wait
        refuse_if_running(tmp_path, printed.append)
        with hold_lease(tmp_path, printed.append) as ours:
            ours.check()
    assert printed == []


def test_a_driver_that_ended_leaves_no_lease(tmp_path: Path) -> None:
    with hold_lease(tmp_path) as ours:
        assert read_holder(tmp_path) == ours.holder
        ours.check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_living_driver_of_another_machine_is_named_with_the_time_it_took_to_know(tmp_path: Path) -> None:
    printed: list[str] = []
    with hold(tmp_path, "away", PATIENT_INTERVAL) as first:
        for enter in (lambda: hold_lease(tmp_path, printed.append).__enter__(), lambda: refuse_if_running(tmp_path)):
            with pytest.raises(
                UserError,
                match=rf"is being run by process {first.pid} on away, which sent a heartbeat after \d+\.\d s of "
                "waiting; wait until it ends, or stop it first",
            ):
                enter()
        assert request_write(first) == "written", "the living driver was disturbed"
        assert printed == [
            f"waiting up to {LEASE_SECONDS:g} s to see whether process {first.pid} on away still runs the study in "
            f"{tmp_path}"
        ]


@pytest.mark.parametrize("locks", [True, False])
def test_a_dead_driver_of_another_machine_is_replaced_when_its_heartbeat_is_missed_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    with hold(tmp_path, "away") as first:
        first.kill()
    with contextlib.nullcontext() if locks else without_locks(monkeypatch):
        refuse_if_running(tmp_path)
        start = time.monotonic()
        with hold_lease(tmp_path, seconds=0.5, interval=INTERVAL) as ours:
            assert time.monotonic() - start > 0.5
            ours.check()


def test_without_kernel_locks_the_heartbeat_decides_on_one_machine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with without_locks(monkeypatch), hold_lease(tmp_path, interval=PATIENT_INTERVAL):
        with pytest.raises(UserError, match=rf"process {os.getpid()} on \S+, which sent a heartbeat"):
            hold_lease(tmp_path).__enter__()
        with pytest.raises(UserError, match="which sent a heartbeat"):
            refuse_if_running(tmp_path)


def test_a_frozen_driver_that_was_replaced_writes_nothing_when_it_wakes(tmp_path: Path) -> None:
    with hold(tmp_path, "away") as first:
        os.kill(first.pid, signal.SIGSTOP)
        with hold_lease(tmp_path, seconds=0.5, interval=INTERVAL) as ours:
            os.kill(first.pid, signal.SIGCONT)
            assert request_write(first) == (
                f"the study in {tmp_path} was taken over by process {os.getpid()} on {ours.holder.machine.host} while "
                "this process did not respond; nothing more is written from here: let that process continue, or stop "
                "it and run the study again"
            )
            time.sleep(3 * INTERVAL)  # its heartbeats go into a file that has no name any more
            ours.check()
            assert first.stdin is not None
            first.stdin.close()
            first.wait()
            assert read_holder(tmp_path) == ours.holder, "its end must not remove another driver's lease"
        assert not (tmp_path / "written").exists()


def test_a_driver_that_releases_the_study_while_another_waits_is_replaced_then(tmp_path: Path) -> None:
    with hold(tmp_path, "away") as first:
        os.kill(first.pid, signal.SIGSTOP)
        printed: list[str] = []

        def release(line: str) -> None:  # once the other one begins to wait
            printed.append(line)
            (tmp_path / LEASE).unlink()

        with hold_lease(tmp_path, release, seconds=3600, interval=INTERVAL) as ours:
            ours.check()
        assert len(printed) == 1


def test_a_folder_without_a_driver_is_free_and_left_as_it_is(tmp_path: Path) -> None:
    refuse_if_running(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_the_holder_is_found_without_waiting_and_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    assert find_living_holder(tmp_path) is None
    with hold_lease(tmp_path) as lease:
        holder = find_living_holder(tmp_path)
        assert holder is not None
        assert holder.id == lease.holder.id
        content = (tmp_path / "lease.json").read_bytes()
    assert find_living_holder(tmp_path) is None
    (tmp_path / "lease.json").write_bytes(content)
    assert find_living_holder(tmp_path) is None, "the lock is free, so the process that wrote this is dead"
    assert find_living_holder(tmp_path, Machine("elsewhere", "another boot")) is not None


def test_the_lock_shows_a_holder_of_this_machine_alive_however_old_its_heartbeat_seems(tmp_path: Path) -> None:
    with hold_lease(tmp_path, interval=3600.0) as lease:
        os.utime(tmp_path / LEASE, (0.0, 0.0))  # the clock of a file server, or this machine's, has been set
        holder = find_living_holder(tmp_path)
        assert holder is not None
        assert holder.id == lease.holder.id
        assert find_living_holder(tmp_path, Machine("elsewhere", "another boot")) is None


@pytest.mark.parametrize("kind", ["hold", "look"])
def test_a_driver_waits_for_a_process_that_only_records_commands_and_is_not_refused(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as commands:
        brief = commands.enter_context(hold_lease(tmp_path, brief=True))
        timer = threading.Timer(1.0, commands.close)
        timer.start()
        if kind == "look":
            refuse_if_running(tmp_path)
            assert read_holder(tmp_path) is None
        else:
            with hold_lease(tmp_path) as lease:
                assert lease.holder.id != brief.holder.id
        timer.join()


def test_a_process_that_records_commands_for_too_long_is_a_driver_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_BRIEF_SECONDS", 0.2)
    with hold_lease(tmp_path, brief=True), pytest.raises(UserError, match=f"is being run by process {os.getpid()} on"):
        refuse_if_running(tmp_path)
