"""One Ray for one study: an embedded one that leaves nothing behind, or a running cluster.

Ray is imported inside the functions: it takes a second, and `--help` must not pay for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

from cluster.addresses import no_head
from cluster.credentials import enable_token_authentication, refused_credentials
from cluster.errors import error_line
from cluster.resources import Node, this_machine

# What Ray Train and Tune read from the environment. Every line takes away seconds of a trial or lines of noise.
# setdefault is used, so that a user's own setting wins.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a start or a death of workers is noticed at the next poll
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
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@contextlib.contextmanager
def connect(address: str | None = None, cpus: int | None = None) -> Iterator[list[Node]]:
    """Ray for the time of the block, and the nodes it has; whatever was started here is gone afterwards.

    Raises ClusterError where `address` does not answer or refuses this machine's token.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if address is not None:  # an embedded Ray turns authentication on by itself
        enable_token_authentication()
    import ray

    if ray.is_initialized():  # a caller's own Ray is used and left alone
        yield nodes()
        return
    try:
        if address is None:
            _start_embedded(ray, cpus)
        else:
            _join_cluster(ray, address)
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


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


def _start_embedded(ray: Any, cpus: int | None) -> None:
    machine = this_machine()
    with _block_stop_signals():
        ray.init(
            address="local",
            num_cpus=cpus or int(machine.cpus),
            num_gpus=int(machine.gpus),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            **_quiet(),
        )


def _join_cluster(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, runtime_env={"env_vars": _train_settings()}, **_quiet())
    except ray.exceptions.AuthenticationError:
        raise refused_credentials(address) from None
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise no_head(address, error_line(error)) from None


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


def _train_settings() -> dict[str, str]:
    """For workers on other machines. What the enclosing job has set reaches them anyway, and Ray refuses it twice."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    set_by_job = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {key: os.environ[key] for key in SETTINGS if key.startswith("RAY_TRAIN_") and key not in set_by_job}


def _stop(ray: Any) -> None:
    """Shut Ray down and wait until the processes that it started here are gone; kill those that stay."""
    import psutil  # a dependency of Ray, which adds it to the path when imported

    started = [child for child in psutil.Process().children(recursive=True) if _is_ray(child)]
    _replace_terminate_by_kill(ray)
    ray.shutdown()
    _, alive = psutil.wait_procs(started, timeout=SHUTDOWN_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _replace_terminate_by_kill(ray: Any) -> None:
    """Ray sends each of its processes SIGTERM and waits a second; those started here block that signal."""
    with contextlib.suppress(AttributeError):  # Ray was not started here
        for infos in ray._private.worker._global_node.all_processes.values():
            for info in infos:
                info.process.terminate = info.process.kill


def _is_ray(process: Any) -> bool:
    try:
        line = " ".join(process.cmdline())
    except Exception:  # it ended meanwhile
        return False
    return "ray::" in line or "/ray/" in line
