"""One Ray for one study: an embedded Ray that ends with it, or a running cluster.

Ray is imported inside the functions, because the import takes a second, which `--help` does not need.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from cluster import embedded
from cluster.addresses import no_head_error
from cluster.credentials import enable_token_authentication, refused_credentials_error
from cluster.errors import format_error
from cluster.resources import Node, detect_this_machine

# Environment variables of Ray Train and Tune. Each of them saves seconds of a trial or lines of output.
# setdefault is used, so that a user's own setting wins.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a start or a death of workers is noticed at the next poll
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one more process a trial
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths are relative to the user's folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
OBJECT_STORE_BYTES = 200 * 1024**2  # only recipes and metrics go through it; data is on the disk


@contextlib.contextmanager
def connect(
    address: str | None = None, cpus: int | None = None, give_up: embedded.GiveUp = embedded.print_reason
) -> Iterator[list[Node]]:
    """Connect to Ray for the time of the block; yields its nodes. Processes that were started here end with the block.

    Where these end before it and this process waits for their answer, `give_up` gets the reason, and it ends with 1.

    Raises ClusterError where `address` does not answer or refuses this machine's token, or no Ray starts here.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if address is not None:  # an embedded Ray enables authentication by itself
        enable_token_authentication()
    import ray

    if ray.is_initialized():  # a caller's own Ray is used and left alone
        yield list_nodes()
        return
    try:
        if address is None:
            _start_embedded(ray, cpus, give_up)
        else:
            _join_cluster(ray, address)
        yield list_nodes()
    finally:
        embedded.stop()


def list_nodes() -> list[Node]:
    """The living machines of the connected cluster."""
    import ray

    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _make_quiet_options() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


def _start_embedded(ray: Any, cpus: int | None, give_up: embedded.GiveUp) -> None:
    machine = detect_this_machine()
    embedded.start(
        lambda: ray.init(
            address="local",
            num_cpus=cpus or int(machine.cpus),
            num_gpus=int(machine.gpus),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            **_make_quiet_options(),
        ),
        give_up,
    )


def _join_cluster(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, runtime_env={"env_vars": _list_train_settings()}, **_make_quiet_options())
    except ray.exceptions.AuthenticationError:
        raise refused_credentials_error(address) from None
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise no_head_error(address, format_error(error)) from None


def _list_train_settings() -> dict[str, str]:
    """Settings for workers on other machines, without those of the enclosing job, which Ray refuses to set again."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    set_by_job = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {key: os.environ[key] for key in SETTINGS if key.startswith("RAY_TRAIN_") and key not in set_by_job}
