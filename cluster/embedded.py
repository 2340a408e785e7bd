"""The Ray that a process starts for itself: its start, whether it still works, and its end.

Ray is imported inside the functions, because the import takes a second, which `--help` does not need.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cluster.errors import ClusterError, format_error

STARTS = 3  # that are tried: on a busy machine Ray's processes may need more than the 30 s that it waits for them
SHUTDOWN_SECONDS = 1.0  # for workers to end by themselves after Ray's shutdown; its agents do not
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
NEEDED = ("gcs_server", "raylet")  # of Ray's own processes, those without which no trial can start or end
LOOK_SECONDS = 1.0  # between two looks at these
# For this process to end, once one of them has. Without an answer for 60 s, Ray ends it without a line.
END_SECONDS = 30.0

GiveUp = Callable[[str], object]


def print_reason(reason: str) -> None:
    """Print why this process ends as the line of an error."""
    print(f"error: {reason}; give the command again", file=sys.stderr, flush=True)


def start(init: Callable[[], object], give_up: GiveUp = print_reason) -> None:
    """Start Ray by `init`. A ClusterError where it does not come up.

    Where Ray ends before `stop`, and this process waits for its answer, `give_up` gets the reason; then it ends.
    """
    for left in reversed(range(STARTS)):
        try:
            with _block_stop_signals():
                init()
            _guards.append(_Guard(give_up))
            return
        except Exception as error:  # Ray raises plain ones
            stop()
            if "timed out during startup" not in str(error):
                raise ClusterError(f"Ray does not start on this machine: {format_error(error)}") from None
            if left == 0:
                raise ClusterError(
                    f"Ray does not start on this machine: {STARTS} times its processes were not up within 30 s; too "
                    "much else runs here: end some of it, or run the study on another machine"
                ) from None


def find_ended() -> str | None:
    """Which of Ray's processes that this one has started and needs is no more; None where it has started none.

    Without this look a study would wait a minute for the answer of a process that is gone; then Ray ends this one.
    """
    for name in NEEDED:
        if any(process.poll() is not None for process in _list_own(name)):
            return name
    return None


def describe_ended(name: str) -> str:
    """Why nothing can go on without that process."""
    return f"Ray's process {name} on this machine has ended: it was killed, or memory ran out"


def stop() -> None:
    """Shut Ray down and wait until the processes that it started here are gone; kill those that stay."""
    import psutil
    import ray

    if find_ended() is None:  # from here on its processes end in order
        _dismiss_guards()
    started = _find_started()
    _replace_terminate_by_kill()
    before = signal.getsignal(signal.SIGTERM)
    ray.shutdown()
    with contextlib.suppress(ValueError, TypeError):  # another thread than the main one; a handler of C code
        signal.signal(signal.SIGTERM, before)  # Ray leaves the default behind, which ends the process at once
    _, alive = psutil.wait_procs(started, timeout=SHUTDOWN_SECONDS)
    _kill(alive)
    _dismiss_guards()


class _Guard:
    """Ends this process where Ray has ended and its main thread does not notice, as it may wait for an answer in Ray's
    own code, which no signal and no error interrupts."""

    def __init__(self, give_up: GiveUp) -> None:
        self._give_up, self._stopped = give_up, threading.Event()
        threading.Thread(target=self._watch, name="ray-guard", daemon=True).start()

    def stand_down(self) -> None:
        """Ray was stopped in order."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            if find_ended() is None or self._stopped.wait(END_SECONDS) or (name := find_ended()) is None:
                continue
            with contextlib.suppress(Exception):  # whatever it is, the process has to end
                self._give_up(describe_ended(name))
            _kill(_find_started())
            os._exit(1)


_guards: list[_Guard] = []  # of the Ray that this process has started


def _dismiss_guards() -> None:
    while _guards:
        _guards.pop().stand_down()


@contextlib.contextmanager
def _block_stop_signals() -> Iterator[None]:
    """Processes started in the block never receive SIGINT or SIGTERM.

    timeout, Slurm and systemd send these to all processes of a study, but only the study itself may act on them: it
    then ends its Ray in order. Ray's processes end by SIGKILL, or with this process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _find_started() -> set[Any]:
    """All processes of the Ray that was started here."""
    import psutil  # a dependency of Ray, which adds it to the path when imported

    raylets = [str(process.pid) for process in _list_own("raylet")]
    started = {child for child in psutil.Process().children(recursive=True) if _is_ray(child)}
    # Agents of a raylet that was killed have another parent, and wait a minute for an answer before they end.
    return started | {process for process in psutil.process_iter() if raylets and _find_raylet(process) in raylets}


def _kill(processes: Iterable[Any]) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _list_own(name: str = "") -> list[Any]:
    """Ray's processes with this name that were started here; all without a name, and none on a cluster."""
    import ray

    node = ray._private.worker._global_node
    started = {} if node is None else node.all_processes
    return [info.process for kind, infos in list(started.items()) if name in ("", kind) for info in infos]


def _replace_terminate_by_kill() -> None:
    """Ray sends each of its processes SIGTERM and waits a second; those started here block that signal."""
    for process in _list_own():
        process.terminate = process.kill


def _is_ray(process: Any) -> bool:
    try:
        line = " ".join(process.cmdline())
    except Exception:  # it ended meanwhile
        return False
    return "ray::" in line or "/ray/" in line


def _find_raylet(process: Any) -> str | None:
    """The raylet that an agent or a worker belongs to."""
    with contextlib.suppress(Exception):  # it ended meanwhile, or is another user's
        environment: dict[str, str] = process.environ()
        return environment.get("RAY_RAYLET_PID")
    return None
