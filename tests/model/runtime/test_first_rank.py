"""What rank 0 does while the others wait for it outside of a collective."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from model.errors import UserError
from model.runtime import first_rank, hang_watch, rank
from model.runtime.first_rank import go_first, wait_for_first
from model.runtime.hang_watch import Work, end_hanging
from model.runtime.progress import follow_progress

ROOT = Path(__file__).parents[3]
GOES_FIRST_FOR_EVER = """
import time
import torch.distributed as dist
from model.runtime.first_rank import go_first
store = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
with go_first(store):
    print(store.port, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_rank, "SECONDS", 0.02)


@pytest.fixture
def first() -> Iterator[subprocess.Popen[str]]:
    """A process that goes first, holds the store, and prints its port."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", GOES_FIRST_FOR_EVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process
        process.kill()


def test_the_others_wait_with_signs_of_progress_until_rank_0_has_ended_what_it_does_first() -> None:
    store, steps = dist.HashStore(), list[str]()
    waits = threading.Event()

    def note() -> None:
        steps.append("progress")
        if len(steps) == 3:
            waits.set()

    def wait() -> None:
        with follow_progress(note):
            wait_for_first(store)
        steps.append("goes on")

    other = threading.Thread(target=wait, daemon=True)
    other.start()
    with go_first(store):
        assert waits.wait(60.0), "signs of life are signs of progress"
        assert "goes on" not in steps
    other.join(60.0)
    assert steps[-1] == "goes on"


def test_an_error_of_rank_0_has_nobody_go_on() -> None:
    store = dist.HashStore()
    with pytest.raises(ZeroDivisionError), go_first(store):
        raise ZeroDivisionError
    assert not store.check([first_rank.DONE])


def test_a_rank_0_that_gives_no_sign_of_life_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hang_watch, "LOOK_SECONDS", 0.05)
    work = Work("worker 1, which waits for worker 0,", "--stall-seconds", computes=False, folder=tmp_path)
    with (
        pytest.raises(UserError, match=r"^worker 1, which waits for worker 0, made no progress for \d+ s \("),
        end_hanging(work, 0.5),
    ):
        wait_for_first(dist.HashStore())


def test_the_end_of_a_rank_0_that_holds_the_store_is_one_line(first: subprocess.Popen[str]) -> None:
    assert first.stdout is not None
    port = int(first.stdout.readline())
    store = dist.TCPStore("127.0.0.1", port, 2, is_master=False, timeout=timedelta(seconds=60.0))
    with (
        pytest.raises(UserError, match=r"^worker 0, which prepares what all need, has ended; its own message says "),
        follow_progress(first.kill),
    ):
        wait_for_first(store)


def test_a_collective_waits_longer_than_a_training_may_be_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **settings: given.update(settings))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with rank.join_group():
        assert given["timeout"] > timedelta(seconds=hang_watch.STALL_SECONDS)
