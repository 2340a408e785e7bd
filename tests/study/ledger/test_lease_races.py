"""The lease itself: which of several drivers acquires it, what its file has, and that its heartbeats continue."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import SECONDS, wait_for

from model.errors import UserError
from study.ledger import lease as lease_module
from study.ledger.lease import LEASE, Lease, hold_lease
from study.ledger.lease_file import Holder, Machine, make_holder, read_holder

INTERVAL = 0.1


@pytest.fixture
def dead(tmp_path: Path) -> bytes:
    """The lease of a driver of another machine, which sends no more heartbeats."""
    lease = Lease(tmp_path, holder_on("away"))
    assert lease.acquire(None, confirm=False)
    return (tmp_path / LEASE).read_bytes()


def holder_on(host: str) -> Holder:
    return make_holder(Machine(host, host), 0.3, False)


@pytest.mark.usefixtures("dead")
def test_of_several_that_replace_a_dead_driver_at_the_same_time_one_gets_the_study(tmp_path: Path) -> None:
    ended, outcome = threading.Event(), dict[str, str]()

    def replace(host: str) -> None:
        try:
            with hold_lease(tmp_path, machine=Machine(host, host), seconds=0.4, interval=INTERVAL) as ours:
                outcome[host] = "held"
                ended.wait(SECONDS)
                ours.check()
        except UserError as error:
            outcome[host] = str(error)

    threads = [threading.Thread(target=replace, args=(host,)) for host in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(outcome) == 3)
    ended.set()
    for thread in threads:
        thread.join()
    won = [host for host, result in outcome.items() if result == "held"]
    assert len(won) == 1
    # Each names the last one that it saw, which need not have won; one that had confirmed its lease was taken over.
    lost = rf"(is being run|was taken over) by process {os.getpid()} on (one|two|three)\b"
    assert all(re.search(lost, outcome[host]) for host in outcome.keys() - {*won})


def test_a_driver_whose_new_lease_was_overwritten_before_it_checked_again_gives_up(
    tmp_path: Path, dead: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the same dead lease; the slower one writes over the faster one's."""
    overwritten = threading.Event()
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(sleep=lambda seconds: overwritten.wait(SECONDS)))
    fast, slow = (Lease(tmp_path, holder_on(host)) for host in ("fast", "slow"))
    racing = threading.Thread(target=lambda: outcome.append(fast.acquire(dead, confirm=True)))
    outcome: list[bool] = []
    racing.start()
    wait_for(lambda: read_holder(tmp_path) == fast.holder)
    assert not slow.acquire(dead, confirm=True), "the lease is no longer the one that it watched"
    (tmp_path / "slower").write_bytes(dead)
    os.replace(tmp_path / "slower", tmp_path / LEASE)  # as if it had read the lease before
    overwritten.set()
    racing.join()
    assert outcome == [False]
    assert not list(tmp_path.glob(".lease*"))


def test_a_free_study_is_acquired_by_one_of_two(tmp_path: Path) -> None:
    first, second = (Lease(tmp_path, holder_on(host)) for host in ("one", "two"))
    assert first.acquire(None, confirm=False)
    assert not second.acquire(None, confirm=False)
    second.release()
    assert read_holder(tmp_path) == first.holder
    first.release()
    assert not (tmp_path / LEASE).exists()


def test_a_damaged_lease_has_an_unknown_holder_until_its_heartbeat_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.ledger.lease_file._DEFAULT_INTERVAL", INTERVAL)
    (tmp_path / LEASE).write_bytes(b"{")
    printed: list[str] = []
    with hold_lease(tmp_path, printed.append, seconds=0.1, interval=INTERVAL):
        assert printed == [f"waiting up to 0.3 s to see whether another process still runs the study in {tmp_path}"]


def test_heartbeats_continue_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold_lease(tmp_path, interval=0.02):
        with monkeypatch.context() as patched:
            patched.setattr(lease_module.os, "pwrite", fail)
            time.sleep(0.2)
            unchanged = (tmp_path / LEASE).read_bytes()
            time.sleep(0.2)
            assert (tmp_path / LEASE).read_bytes() == unchanged
        wait_for(lambda: (tmp_path / LEASE).read_bytes() != unchanged)


def fail(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_lease_names_process_and_machine_in_a_file_of_constant_length(tmp_path: Path) -> None:
    with hold_lease(tmp_path, interval=0.02) as ours:
        first = (tmp_path / LEASE).read_bytes()
        wait_for(lambda: json.loads((tmp_path / LEASE).read_bytes())["heartbeat"] > "000000000010")
        content = json.loads((tmp_path / LEASE).read_bytes())
        assert len((tmp_path / LEASE).read_bytes()) == len(first)
    machine = Machine.detect()
    assert content == {
        "holder": ours.holder.id,
        "host": machine.host,
        "boot": machine.boot,
        "pid": os.getpid(),
        "every": 0.02,
        "locked": True,
        "brief": False,
        "heartbeat": content["heartbeat"],
    }
