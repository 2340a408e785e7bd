"""Work in processes of this machine, which end with the one that started them, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from model.errors import UserError
from model.runtime.stacks import answer_signal

T = TypeVar("T")

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def run_in_processes(function: Callable[[T], int], tasks: Sequence[T], jobs: int) -> Iterator[int]:
    """What the function gives for each task, as it comes. A single task, or a single job, needs no other process.

    Left early, it waits for the tasks that run; Ctrl-C on a terminal ends them. Raises a UserError where a process is
    lost.
    """
    if jobs == 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("forkserver")  # a fork of this process would have its locks, not its threads
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_start) as pool:
        try:
            with _interrupts_later():
                futures = [pool.submit(function, task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except (BrokenProcessPool, EOFError):  # EOFError where it is the server that forks them
            raise UserError(
                "a process that did a part of the work was killed, perhaps for want of memory; start the same command "
                "again, which goes on where it was, with fewer processes if it can have fewer"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C in the block is answered after it: processes that are being started would print where each of them was.

    Nor does the server that forks them end with a signal that is sent to all.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda kind, frame: interrupts.append(kind))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # which the processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def _start() -> None:
    """One thread of torch's in each process, and an end with Ctrl-C, in silence, or with the parent.

    It says where it is when it is asked, as `model.runtime.child_processes` does.
    """
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    answer_signal()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Not the parent by its id, which is the server that forked this process and lives as long as it does.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
