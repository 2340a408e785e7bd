"""Work in processes of this machine, which end with the one that started them, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")

LOOK_FOR_PARENT_SECONDS = 1.0


def run_in_processes(function: Callable[[T], int], tasks: Sequence[T], jobs: int) -> Iterator[int]:
    """What the function gives for each task, as it comes. A single task, or a single job, needs no other process."""
    if jobs == 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("forkserver")  # a fork of this process would have its locks, not its threads
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_start) as pool:
        futures = [pool.submit(function, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """One thread of torch's in each process, and an end when the parent has one."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_FOR_PARENT_SECONDS)
    os._exit(1)
