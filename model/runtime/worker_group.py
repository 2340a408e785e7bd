"""Several processes of this machine that train one recipe together: started, watched, and ended together.

Each is a rank of torch.distributed's default group, with the variables that torchrun sets (RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT), so that processes which torchrun or Slurm started form a group in the same way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from model.runtime.child_processes import Child, dump_children, dump_processes
from model.runtime.rank import FAILURES, KINDS, STALLED, TERMINATED, Failure, read_failures
from model.runtime.stacks import save_stacks

if TYPE_CHECKING:
    from torch.distributed import TCPStore

LOOPBACK = {"linux": "lo", "darwin": "lo0"}
GATHER_SECONDS = 2.0  # for the other ranks' errors, when the first rank has ended
STALL_SECONDS = 10.0  # for the other ranks to see that they hang too, and to keep where
STOP_SECONDS = 5.0  # for ranks to end after Ctrl-C


class WorkerError(Exception):
    """A process of a group ended by an error that is not the user's, or was killed; the message is one line."""


def choose_count(workers: int | None) -> int:
    """The number of processes: as many as asked for, else one for each visible GPU, or one where there is none.

    Raises a UserError where there are fewer GPUs than processes, of which each needs one.
    """
    import torch

    gpus = torch.cuda.device_count()
    if workers is not None and gpus and workers > gpus:
        raise UserError(
            f"--workers is {workers}, but this process sees {gpus} GPU{'s' if gpus > 1 else ''} and each worker needs "
            "one; lower it, or set CUDA_VISIBLE_DEVICES to more of them"
        )
    return workers or max(gpus, 1)


def run_group(module: str, arguments: Sequence[str], count: int, folder: Path | None = None) -> int:
    """Run `python -m MODULE ARGUMENTS` in `count` processes until all have ended; the exit code, 0 or that of SIGTERM.

    Rank 0 prints. When a rank fails all others are ended, and its error is raised here: one of `KINDS` as it was,
    anything else as a WorkerError. Ctrl-C ends them, SIGTERM is passed on to them. They end when this process ends,
    however that comes about. Where they hang, the stacks of those that could not keep them are kept in `folder`.
    """
    with tempfile.TemporaryDirectory(prefix="decred-workers-") as temporary:
        store = _open_store(count)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            with _passing_on_sigterm(processes):
                for rank in range(count):
                    processes.append(_start(module, arguments, rank, count, store.port, Path(temporary)))
                codes = _watch(processes, Path(temporary))
                if STALLED in codes and folder is not None:
                    _keep_stacks(processes, codes, folder)
        except BaseException:
            _interrupt(processes)
            raise
        finally:
            _kill(processes)
        if set(codes) <= {0, TERMINATED}:
            return max(code or 0 for code in codes)
        raise _find_error(codes, Path(temporary))


def _open_store(count: int) -> TCPStore:
    """Where the ranks meet: here, on a port that the system chooses, so that no rank has to find a free one."""
    from torch.distributed import TCPStore

    return TCPStore("127.0.0.1", 0, count, is_master=True, wait_for_workers=False)


def _start(
    module: str, arguments: Sequence[str], rank: int, count: int, port: int, temporary: Path
) -> subprocess.Popen[bytes]:
    loopback = LOOPBACK.get(sys.platform)
    interfaces = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), loopback) if loopback else {}
    threads = str(max(1, len(_usable_cores()) // count))
    environment: dict[str, Any] = {
        **interfaces,
        "OMP_NUM_THREADS": threads,
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's name for a store that no rank holds
        FAILURES: str(temporary),
        # What this process imports, and nothing else: a user's module may lie in the current folder.
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
    }
    output = None if rank == 0 else subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C on a terminal comes here alone, and a rank ends with the processes it started
    )


def _usable_cores() -> Sequence[int]:
    return list(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _watch(processes: Sequence[subprocess.Popen[bytes]], temporary: Path) -> list[int | None]:
    """Wait until all have ended, or one has failed and the others had time to; their exit codes, None of the rest."""
    failed_at: float | None = None
    while None in (codes := _read_codes(processes, temporary)):
        if failed_at is None and any(code not in (0, TERMINATED, None) for code in codes):
            failed_at = time.monotonic()
        patience = STALL_SECONDS if STALLED in codes else GATHER_SECONDS
        if failed_at is not None and time.monotonic() > failed_at + patience:
            break
        time.sleep(0.05)
    return codes


def _read_codes(processes: Sequence[subprocess.Popen[bytes]], temporary: Path) -> list[int | None]:
    """The exit codes so far; that of a rank that hangs is known before it ends."""
    codes = [process.poll() for process in processes]
    for failure in read_failures(temporary):
        if failure.is_stalled and codes[failure.rank] is None:
            codes[failure.rank] = STALLED
    return codes


def _keep_stacks(processes: Sequence[subprocess.Popen[bytes]], codes: Sequence[int | None], folder: Path) -> None:
    """Keep the stacks of the ranks that neither have ended nor kept their own, or say why there are none."""
    for rank, (process, code) in enumerate(zip(processes, codes, strict=True)):
        if code is None:
            stacks = dump_processes([Child(process.pid, f"worker {rank}", os.getpid())]) + dump_children(process.pid)
            save_stacks(folder, {rank: stacks})


@contextlib.contextmanager
def _passing_on_sigterm(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """SIGTERM in the block is sent to the ranks, which write a checkpoint and end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(kind: int, frame: object) -> None:
        for process in processes:
            process.send_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End all that are left, with the processes that they started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _find_error(codes: Sequence[int | None], temporary: Path) -> Exception:
    """The error that the others followed from, of ranks with these exit codes, None for those that still ran."""
    failures = read_failures(temporary)
    for failure in failures:
        if failure.kind in KINDS:
            return KINDS[failure.kind](failure.message)
    if stalled := [failure for failure in failures if failure.is_stalled]:
        return WorkerError(_describe_stalled(stalled, codes))
    for failure in failures:
        if not failure.is_echo:
            return WorkerError(f"worker {failure.rank} of {len(codes)}: {failure.kind}: {failure.message}")
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            return WorkerError(
                f"worker {rank} of {len(codes)} was killed ({signal.Signals(-code).name}), perhaps for want of memory; "
                "start the same command again, which continues from the last checkpoint"
            )
    rank, code = next((rank, code) for rank, code in enumerate(codes) if code not in (0, TERMINATED, None))
    echoes = [f": {failure.message}" for failure in failures[:1]]
    return WorkerError(f"worker {rank} of {len(codes)} ended with exit code {code}{''.join(echoes)}")


def _describe_stalled(stalled: Sequence[Failure], codes: Sequence[int | None]) -> str:
    """Where the rank is that the others wait for, or else that it does not answer."""
    for failure in stalled:
        if not failure.waits:
            return f"worker {failure.rank} of {len(codes)}: {failure.message}"
    silent = [rank for rank, code in enumerate(codes) if code is None]
    if silent:
        return f"worker {silent[0]} of {len(codes)} does not answer, and worker {stalled[0].rank} waits for it: " + (
            stalled[0].message
        )
    return f"worker {stalled[0].rank} of {len(codes)}: {stalled[0].message}"
