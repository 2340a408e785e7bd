"""The lease itself: who gets it of several, what it holds, and that its beat goes on."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import UserError
from study.ledger import lease as lease_module
from study.ledger.lease import LEASE, Lease, held
from study.ledger.lease_file import Holder, Machine, lease_holder, new_holder

EVERY = 0.1


@pytest.fixture
def dead(tmp_path: Path) -> bytes:
    """The lease of a driver of another machine, which beats no more."""
    left = Lease(tmp_path, make("away"))
    assert left.take(None, settle=False)
    return (tmp_path / LEASE).read_bytes()


def make(host: str) -> Holder:
    return new_holder(Machine(host, host), 0.3, False)


@pytest.mark.usefixtures("dead")
def test_of_several_that_follow_a_dead_driver_at_the_same_time_one_has_the_study(tmp_path: Path) -> None:
    ended, outcome = threading.Event(), dict[str, str]()

    def follow(host: str) -> None:
        try:
            with held(tmp_path, machine=Machine(host, host), seconds=0.4, every=EVERY) as ours:
                outcome[host] = "held"
                ended.wait(10)
                ours.check()
        except UserError as error:
            outcome[host] = str(error)

    threads = [threading.Thread(target=follow, args=(host,)) for host in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(outcome) == 3)
    ended.set()
    for thread in threads:
        thread.join()
    won = [host for host, said in outcome.items() if said == "held"]
    assert len(won) == 1
    assert all(
        f"is being run by process {os.getpid()} on {won[0]}" in outcome[host] for host in outcome.keys() - {*won}
    )


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_taker_that_was_overtaken_before_it_looked_again_gives_way(tmp_path: Path, dead: bytes) -> None:
    """Both have read the same dead lease; the slower one writes over the faster one's."""
    fast, slow = (Lease(tmp_path, make(host)) for host in ("fast", "slow"))
    racing = threading.Thread(target=lambda: outcome.append(fast.take(dead, settle=True)))
    outcome: list[bool] = []
    racing.start()
    wait_for(lambda: lease_holder(tmp_path) == fast.holder)
    assert not slow.take(dead, settle=True), "it sees that the lease is no more the one that it watched"
    (tmp_path / "slower").write_bytes(dead)
    os.replace(tmp_path / "slower", tmp_path / LEASE)  # as if it had looked before
    racing.join()
    assert outcome == [False]
    assert not list(tmp_path.glob(".lease*"))


def test_a_free_study_is_given_to_one_of_two(tmp_path: Path) -> None:
    first, second = (Lease(tmp_path, make(host)) for host in ("one", "two"))
    assert first.take(None, settle=False)
    assert not second.take(None, settle=False)
    second.end()
    assert lease_holder(tmp_path) == first.holder
    first.end()
    assert not (tmp_path / LEASE).exists()


def test_a_damaged_lease_is_somebodys_until_it_does_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.ledger.lease_file._EVERY", EVERY)
    (tmp_path / LEASE).write_bytes(b"{")
    said: list[str] = []
    with held(tmp_path, said.append, seconds=0.1, every=EVERY):
        assert said == [f"waiting up to 0.3 s to see whether another process still runs the study in {tmp_path}"]


def test_a_beat_that_cannot_be_written_ends_no_beating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(tmp_path, every=0.02):
        with monkeypatch.context() as patched:
            patched.setattr(lease_module.os, "pwrite", full)
            time.sleep(0.2)
            silent = (tmp_path / LEASE).read_bytes()
            time.sleep(0.2)
            assert (tmp_path / LEASE).read_bytes() == silent
        wait_for(lambda: (tmp_path / LEASE).read_bytes() != silent)


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_lease_says_who_and_where_in_a_file_of_one_length(tmp_path: Path) -> None:
    with held(tmp_path, every=0.02) as ours:
        first = (tmp_path / LEASE).read_bytes()
        wait_for(lambda: json.loads((tmp_path / LEASE).read_bytes())["beat"] > "000000000010")
        said = json.loads((tmp_path / LEASE).read_bytes())
        assert len((tmp_path / LEASE).read_bytes()) == len(first)
    machine = Machine.this()
    assert said == {
        "holder": ours.holder.id,
        "host": machine.host,
        "boot": machine.boot,
        "pid": os.getpid(),
        "every": 0.02,
        "locked": True,
        "beat": said["beat"],
    }
