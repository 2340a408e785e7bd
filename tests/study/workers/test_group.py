"""The driver's end of a group of workers, without Ray."""

from __future__ import annotations

import queue
import threading
import time
from multiprocessing import Pipe

import pytest

from study.workers.failure import Failure, FailureKind
from study.workers.group import Group


@pytest.mark.parametrize("lost", [0, 1])
def test_the_worker_whose_connection_closed_first_is_the_lost_one(lost: int) -> None:
    """Ray Train ends the others when one is lost, and the error that it raises wakes all readers at once."""
    group = Group.__new__(Group)
    group.count, group._lost, group._error = 2, None, RuntimeError("a worker died")
    group._arrivals, group._lock, group._ended = queue.Queue(), threading.Lock(), threading.Event()
    ends = [Pipe() for _ in range(2)]
    readers = [threading.Thread(target=group._read, args=(rank, ends[rank][0])) for rank in (1 - lost, lost)]
    for reader in readers:
        reader.start()
    ends[lost][1].close()
    deadline = time.monotonic() + 30.0
    while group._lost is None and time.monotonic() < deadline:
        time.sleep(0.01)
    ends[1 - lost][1].close()
    time.sleep(0.1)
    group._ended.set()
    for reader in readers:
        reader.join(5.0)
    failure = group._arrivals.get_nowait()
    assert failure == Failure(FailureKind.LOST, f"worker {lost} of 2 was lost (RuntimeError: a worker died)")
