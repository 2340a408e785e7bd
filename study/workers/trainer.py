"""What runs under Ray Train: workers that serve their trial's driver, and a controller that ends with it.

Of Ray Train's trainer two things are changed that its public interface does not offer:

- Two helpers of every run, a process each, are left out. One serves Ray Data, which a trial does not use. The other
  removes the workers' placement group when a run was killed, but asks Ray's dashboard whether that is so: under an
  embedded Ray, which has none, it removes nothing and stays for ever. `cluster.placement_groups` does its work.
- The controller has a connection to the driver and ends when that is closed. `fit` gives no handle to it, and a run
  whose workers are in the middle of a training, or do not come, would hold its resources until the driver ends.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import ControllerCallback

from cluster.process_group import ProcessGroup
from model.runtime.stacks import answer_signal
from study.workers.connections import CONTROLLER, DriverAddress, SocketChannel, connect_to_driver
from study.workers.messages import CrewConfig
from study.workers.placement import select_other_nodes
from study.workers.worker import serve

NOT_NEEDED = ("DatasetsCallback", "PlacementGroupCleanerCallback")
KILL_SECONDS = 5.0  # for Ray to end the controller
# Ray Train requests the workers' resources again after so long, without a limit unless one is set.
_ATTEMPT_SECONDS = 60.0
_SPARE_ATTEMPTS = 3  # where a worker dies while it starts


def make_trainer(config: CrewConfig, address: DriverAddress, avoided: Collection[str] = ()) -> TorchTrainer:
    """A trainer whose workers connect to the driver at `address`, and serve it until it closes their connections.

    They are placed on none of the nodes with the `avoided` ids of Ray.
    """
    resources = {"CPU": config.cpus} | ({"GPU": config.gpus} if config.gpus else {})
    attempts = int(config.start_seconds / _ATTEMPT_SECONDS) + _SPARE_ATTEMPTS
    return _Trainer(
        serve_driver,
        train_loop_config={"address": address, "train": config.train, "threads": max(1, int(config.cpus))},
        torch_config=ProcessGroup("nccl" if config.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.count,
            use_gpu=bool(config.gpus),
            resources_per_worker=resources,
            label_selector=select_other_nodes(avoided) or None,
        ),
        # A name of its own each time: the trials' checkpoints are the recipe's business, and a run is never restored.
        run_config=RunConfig(
            name=f"workers-{secrets.token_hex(4)}",
            storage_path=config.storage,
            callbacks=[_EndWithDriver(address)],
            failure_config=FailureConfig(controller_failure_limit=attempts),
        ),
    )


def serve_driver(config: Mapping[str, Any]) -> None:
    """A worker of the group, from Ray Train's start of it to its end."""
    import torch

    torch.set_num_threads(config["threads"])
    rank = ray.train.get_context().get_world_rank()
    connection = connect_to_driver(config["address"], rank, ray.get_runtime_context().get_actor_id())
    serve(SocketChannel(connection), rank, config["train"], answer_signal())


def find_root_cause(error: BaseException | None) -> BaseException:
    """The error of the worker that failed first, from an error of Ray Train."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = failures[min(failures)]
    error = getattr(error, "controller_failure", None) or error
    return getattr(error, "cause", None) or error or RuntimeError("Ray Train ended without an error")


class _Trainer(TorchTrainer):
    def _create_default_callbacks(self) -> list[Any]:
        return [
            callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in NOT_NEEDED
        ]


class _EndWithDriver(ControllerCallback):
    """Has the controller end when the driver closes its connection, or is gone; Ray then ends the workers."""

    def __init__(self, address: DriverAddress) -> None:
        self._address = address

    def after_controller_start(self, train_run_context: Any) -> None:
        connection = connect_to_driver(self._address, CONTROLLER, ray.get_runtime_context().get_actor_id())
        controller = ray.get_runtime_context().current_actor
        # In a thread: the controller's own one waits for resources a minute at a time.
        threading.Thread(target=_wait_and_kill, args=(connection, controller), daemon=True).start()


def _wait_and_kill(connection: Connection, controller: Any) -> None:
    try:
        connection.recv_bytes()
    except (OSError, EOFError):
        ray.kill(controller)  # through Ray, which would report the death of a process that ends itself as a fault
    time.sleep(KILL_SECONDS)
    os._exit(1)
