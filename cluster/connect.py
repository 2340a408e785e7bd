"""One Ray for one piece of work: an embedded one that leaves nothing behind, or a running cluster.

Ray is imported inside the functions: it takes a second, and `--help` must not pay for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import ClusterError, first_line
from cluster.resources import Node, this_machine

# What Ray Train and Tune read from the environment. Every line takes away seconds of a trial or lines of noise.
# setdefault is used, so that a user's own setting wins.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a start of workers, and news of a death, wait for the next poll
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one more process a trial
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean what they meant to the user
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
OBJECT_STORE_BYTES = 200 * 1024**2  # data goes through the disk; only recipes and metrics travel
SHUTDOWN_SECONDS = 1.0  # for workers to end by themselves, once Ray is down; its agents do not
PROBE_SECONDS = 4.0
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[list[Node]]:
    """Ray for the time of the block, and the nodes it has; whatever was started here is gone afterwards."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    import ray

    if ray.is_initialized():  # a caller's own Ray is used and left alone
        yield nodes()
        return
    try:
        _start(ray, address, cpus)
        yield nodes()
    finally:
        _stop(ray)


def nodes() -> list[Node]:
    """The living machines of the connected cluster."""
    import ray

    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _start(ray: Any, address: str | None, cpus: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        machine = this_machine()
        with _stop_signals_for_us_alone():
            ray.init(
                address="local",
                num_cpus=cpus or int(machine.cpus),
                num_gpus=int(machine.gpus),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
        return
    try:
        ray.init(address=address, runtime_env={"env_vars": _train_settings()}, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise _no_answer(address, error) from None


def probe(address: str) -> None:
    """A ClusterError, within seconds, where nothing listens at HOST:PORT; Ray itself would try for a minute."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
        if host is not None and port is not None:  # `auto` is looked up by Ray, quickly
            socket.create_connection((host, port), PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from None


def _no_answer(address: str, error: BaseException) -> ClusterError:
    return ClusterError(
        f"address '{address}' does not answer as a Ray cluster ({first_line(error)}); "
        "give the address that `ray start --head` printed, or leave --address out"
    )


@contextlib.contextmanager
def _stop_signals_for_us_alone() -> Iterator[None]:
    """Processes started in the block never see SIGINT or SIGTERM: timeout, Slurm and systemd send it to all at once,
    and a study that is stopped ends its Ray in order. They end by SIGKILL, or with this process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _train_settings() -> dict[str, str]:
    """For workers on other machines. Inside a job, what the job has set goes there by itself, and twice is refused."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    there = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {key: os.environ[key] for key in SETTINGS if key.startswith("RAY_TRAIN_") and key not in there}


def _stop(ray: Any) -> None:
    """Shut Ray down and wait until the processes that it started here are gone, or end them one by one."""
    import psutil  # Ray brings it along; importable once Ray is imported

    started = [child for child in psutil.Process().children(recursive=True) if _is_ray(child)]
    _kill_at_once(ray)
    ray.shutdown()
    _, alive = psutil.wait_procs(started, timeout=SHUTDOWN_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _kill_at_once(ray: Any) -> None:
    """Ray asks each of its processes to end and waits a second; ours do not hear SIGTERM."""
    with contextlib.suppress(AttributeError):  # none of ours, or a Ray that keeps them elsewhere
        for infos in ray._private.worker._global_node.all_processes.values():
            for info in infos:
                info.process.terminate = info.process.kill


def _is_ray(process: Any) -> bool:
    try:
        line = " ".join(process.cmdline())
    except Exception:  # it ended while being looked at
        return False
    return "ray::" in line or "/ray/" in line
