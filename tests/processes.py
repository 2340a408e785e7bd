"""Other processes for tests: new ones, gloo groups of two, and a pair of workers that stays for the whole session.

All are forked from a server that has imported torch and the model but computed nothing, so that each starts in
milliseconds and is otherwise a new process.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

FORKSERVER = multiprocessing.get_context("forkserver")
# Optimisers import torch._dynamo, which takes as long as the rest.
FORKSERVER.set_forkserver_preload(["model.training.loop", "torch._dynamo", "hypothesis", "pytest"])
SECONDS = 120  # that any of these processes may take


def run_in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns in a new process; what it raises there is raised here as an AssertionError."""
    own, other = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=_run_one, args=(other, function, args), daemon=True)
    process.start()
    other.close()
    try:
        return _receive(own)
    finally:
        process.kill()
        process.join()


def start_group(folder: Path, function: Callable[..., None], *args: Any) -> list[ForkServerProcess]:
    """Two processes that form a gloo group and run `function(rank, *args)`; `folder` must be new for each group."""
    folder.mkdir()
    processes = [
        FORKSERVER.Process(target=_run_in_group, args=(rank, folder, function, args), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    return processes


class WorkerPair:
    """Two processes in a gloo group that stay until `close`; they start when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._groups = itertools.count()
        self._connections: list[Connection] = []
        self._processes: list[ForkServerProcess] = []

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What `function(rank, *args)` returns on either rank. After an error the next call starts a new pair."""
        if not self._processes:
            pipes = [FORKSERVER.Pipe() for _ in range(2)]
            self._connections = [own for own, _ in pipes]
            others = [other for _, other in pipes]
            self._processes = start_group(self.folder / str(next(self._groups)), _serve, others)
            for other in others:
                other.close()
        for connection in self._connections:
            connection.send_bytes(pickle.dumps((function, args)))
        try:
            return [_receive(connection) for connection in self._connections]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._processes = []


def _run_one(connection: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    _send_result(connection, function, *args)


def _run_in_group(rank: int, folder: Path, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    function(rank, *args)
    dist.destroy_process_group()


def _serve(rank: int, connections: list[Connection]) -> None:
    """Run what the test sends, until it is gone."""
    with contextlib.suppress(EOFError):
        while True:
            function, args = pickle.loads(connections[rank].recv_bytes())
            _send_result(connections[rank], function, rank, *args)


def _send_result(connection: Connection, function: Callable[..., Any], *args: Any) -> None:
    # By plain pickle: torch's own way of sending a tensor needs the sender until it is received.
    try:
        connection.send_bytes(pickle.dumps((True, function(*args))))
    except Exception:
        connection.send_bytes(pickle.dumps((False, traceback.format_exc())))


def _receive(connection: Connection) -> Any:
    assert connection.poll(SECONDS), f"no answer within {SECONDS} s"
    succeeded, result = pickle.loads(connection.recv_bytes())
    assert succeeded, f"in another process:\n{result}"
    return result


def wait_for_death(processes: list[ForkServerProcess]) -> None:
    """Wait until a process of a group was killed, then kill the other one too, as a supervisor would."""
    deadline = time.monotonic() + SECONDS
    # The other one fails when it sees the death, and its end may be known first.
    while -signal.SIGKILL not in (codes := {process.exitcode for process in processes}):
        living = [process.sentinel for process in processes if process.exitcode is None]
        assert living, f"none was killed: {codes}"
        assert multiprocessing.connection.wait(living, deadline - time.monotonic()), f"none ended within {SECONDS} s"
    for process in processes:
        process.kill()
        process.join()
