"""A group whose workers hang, over real connections; its run of Ray Train is not started."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from cluster.worker_ports import WORKER_PORTS
from model.runtime.stacks import request_stacks
from study.workers import crew, group
from study.workers.connections import SocketChannel
from study.workers.failure import Failure, FailureKind
from study.workers.group import Group
from study.workers.messages import CrewConfig, Progress, Report, Running, Task

SECONDS = 60.0  # that a busy machine may take
LIMIT = 1.0
HANGS = """
import time
from model.runtime.stacks import answer_signal

def wait_for_ever():
    print(answer_signal(), flush=True)
    time.sleep(3600)

wait_for_ever()
"""


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Group, list[SocketChannel]]:
    """A group of two, and its workers' ends, which have begun a task."""
    monkeypatch.setenv(WORKER_PORTS, "none")  # its start is refused, and no Ray is touched
    standing = Group(CrewConfig("module:function", "/storage", 2, start_seconds=SECONDS, stall_seconds=LIMIT))
    assert isinstance(standing._receive(0.0), Failure)
    channels = []
    for rank in (0, 1):
        own, other = Pipe()
        threading.Thread(target=standing._serve, args=(rank, f"actor-{rank}", own), daemon=True).start()
        channels.append(SocketChannel(other))
    deadline = time.monotonic() + SECONDS
    while not standing.has_started and time.monotonic() < deadline:
        time.sleep(0.01)
    standing.begin(Task("{}", "hash", str(tmp_path)))
    return standing, channels


def next_event(standing: Group) -> Any:
    """What happens next, as a driver sees it, which looks each second."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if (event := standing.next(0.2)) is not None:
            return event
    raise AssertionError("nothing happened")


@pytest.fixture
def stopped() -> Iterator[int]:
    """The id of a process that is stopped."""
    process = subprocess.Popen(["sleep", "3600"])
    process.send_signal(19)
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def hanging() -> Iterator[tuple[int, str]]:
    """The id of a process that hangs, and the file that its stacks are in, which it writes after each signal."""
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    file = process.stdout.readline().strip()
    assert request_stacks(process.pid, file) is None
    wait_for(lambda: "in <module>" in Path(file).read_text())  # the outermost line, which comes last
    yield process.pid, file
    process.kill()
    process.communicate()


def test_a_rank_that_is_stopped_is_named_with_its_node_and_the_others_stacks_are_kept(
    workers: tuple[Group, list[SocketChannel]], stopped: int, tmp_path: Path
) -> None:
    standing, (first, second) = workers
    host = socket.gethostname()
    first.send(Running("hash", host, "cpu", "node-0"))
    second._sending.acquire()  # it answers nothing any more
    second._connection.send_bytes(crew_message(Running("hash", host, "cpu", "node-1", stopped, str(tmp_path / "none"))))
    first.send(Progress())
    failure = next_event(standing)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.LOST
    assert failure.reason.endswith(
        f"s (failures.stall_seconds 1): worker 1 of 2 on {host} did not answer: its process is stopped (SIGSTOP)"
    )
    assert (failure.node, failure.node_id) == (host, "node-1")
    assert "in next_event" in (tmp_path / "stacks-rank0.txt").read_text()
    assert not (tmp_path / "stacks-rank1.txt").exists(), "a process that is stopped writes nothing"
    assert not standing.usable


def test_a_rank_of_which_no_thread_runs_has_its_own_stacks_kept_beside_the_others(
    workers: tuple[Group, list[SocketChannel]], hanging: tuple[int, str], tmp_path: Path
) -> None:
    standing, (first, second) = workers
    host, (process, file) = socket.gethostname(), hanging
    first.send(Running("hash", host, "cpu", "node-0"))
    second._sending.acquire()  # it answers nothing any more
    second._connection.send_bytes(crew_message(Running("hash", host, "cpu", "node-1", process, file)))
    first.send(Progress())
    failure = next_event(standing)
    assert f"worker 1 of 2 on {host} did not answer: no other thread can run" in failure.reason
    assert failure.reason.endswith("; all threads are in stacks-rank1.txt in its folder")
    assert "in next_event" in (tmp_path / "stacks-rank0.txt").read_text()
    assert "in wait_for_ever" in (tmp_path / "stacks-rank1.txt").read_text()


def test_a_rank_on_another_machine_that_does_not_answer_is_named_with_what_is_known(
    workers: tuple[Group, list[SocketChannel]],
) -> None:
    standing, (first, second) = workers
    first.send(Running("hash", "here", "cpu", "node-0"))
    second._sending.acquire()
    second._connection.send_bytes(crew_message(Running("hash", "elsewhere", "cpu", "node-1", 7, "/proc/7/fd/3")))
    first.send(Progress())
    failure = next_event(standing)
    expected = "worker 1 of 2 on elsewhere did not answer: process 7 is stopped, or no other thread of it can run"
    assert failure.reason.endswith(expected)


def test_signs_of_any_rank_are_progress_and_a_report_waits_for_its_answer_without_a_limit(
    workers: tuple[Group, list[SocketChannel]], monkeypatch: pytest.MonkeyPatch
) -> None:
    standing, channels = workers
    clock = [100.0]
    monkeypatch.setattr(standing._watch, "_clock", lambda: clock[0])
    monkeypatch.setattr(standing, "_end_stalled", lambda seconds: pytest.fail("it was ended"))
    standing._watch.restart()
    for rank in (0, 1):
        channels[rank].send(Running("hash", "here", "cpu"))
    channels[0].send(Progress())
    for count in range(8):
        clock[0] += 0.9 * LIMIT
        channels[count % 2].send(Progress())
        assert standing.next(0.3) is None
    for channel in channels:
        channel.send(Report({"epoch": 1.0}))
    assert isinstance(next_event(standing), Report)
    for _ in range(20):
        clock[0] += LIMIT
    standing.answer(proceed=True)
    assert standing.next(0.1) is None


def test_before_all_workers_are_there_only_the_limit_of_their_start_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER_PORTS, "none")
    monkeypatch.setattr(crew.Crew, "_end_stalled", lambda self, seconds: pytest.fail("it was ended"))
    waiting = Group(CrewConfig("module:function", "/storage", 2, start_seconds=0.1, stall_seconds=0.1))
    assert isinstance(waiting._receive(0.0), Failure)
    waiting.begin(Task("{}", "hash", "/folder"))
    for _ in range(4):
        assert waiting.next(0.1) is None


def crew_message(running: Running) -> bytes:
    return group.encode(running)
