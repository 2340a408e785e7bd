"""Parts of a preparation in processes of this machine, which end with the one that started them, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from model.corpora.parts import Part

LOOK_FOR_PARENT_SECONDS = 1.0


def run_in_processes(function: Callable[[Part], int], parts: Sequence[Part], jobs: int) -> Iterator[int]:
    """The results as they come. A single part, or a single job, needs no other process."""
    if jobs == 1 or len(parts) <= 1:
        yield from map(function, parts)
        return
    context = multiprocessing.get_context("forkserver")  # a fork of this process would have its locks, not its threads
    context.set_forkserver_preload(["model.corpora.parts"])
    with ProcessPoolExecutor(min(jobs, len(parts)), context, initializer=_start) as pool:
        futures = [pool.submit(function, part) for part in parts]
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
