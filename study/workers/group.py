"""A standing group of workers under Ray Train: processes and process group stay, recipe after recipe.

Starting a Ray Train run costs ten seconds on a small machine, rebuilding a model almost nothing. So one run of Ray
Train serves all trials of a driver: each of its workers has a line of its own to the driver, over which recipes come.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.process_group import ProcessGroup
from study.workers.crew import Crew
from study.workers.failure import Failure, Kind
from study.workers.worker import DriverGoneError, Message, one_line, serve

ABORT_SECONDS = 10.0
WORD_SECONDS = 2.0  # for Ray to say how a worker ended whose line broke
NODE_ID_LABEL = "ray.io/node-id"

# Two helpers that Ray Train starts for every run, a process each, and that a trial has no use for: one serves
# Ray Data; the other removes the workers' placement group when a run was killed, which `close` does in order, and
# `study.execution.tune` where the driver itself was killed.
NOT_NEEDED = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class Group(Crew):
    """Workers of a Ray Train run that lasts until `close`, on any machines of the cluster."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        super().__init__(constants["workers"]["count"])
        self._arrivals: queue.Queue[tuple[int, Message] | Failure] = queue.Queue()
        self._lock = threading.Lock()
        self._lines: dict[int, Connection] = {}
        self._waiting: dict[int, Message] = {}  # words for workers that are not there yet
        self._ended = threading.Event()
        self._why: BaseException | None = None
        key = secrets.token_bytes(16)
        self._listener = Listener((ray.util.get_node_ip_address(), 0), authkey=key)
        self._trainer = _trainer(constants, self._listener.address, key)
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._fit, daemon=True).start()

    def _send(self, rank: int, message: Message) -> None:
        with self._lock:
            if rank not in self._lines:
                self._waiting[rank] = message
                return
            with contextlib.suppress(OSError):
                self._lines[rank].send_bytes(json.dumps(message).encode())

    def _hear(self, seconds: float) -> tuple[int, Message] | Failure | None:
        try:
            return self._arrivals.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the workers and free their place."""
        self._listener.close()
        for rank in range(self.count):
            self._send(rank, {"kind": "end"})
        controller = self._trainer.controller
        if controller is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_SECONDS)
            ray.kill(controller)  # one whose run has ended stays, and keeps its memory

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # Ray raises its own kinds, and those of the workers
            self._why = error
        self._ended.set()
        with self._lock:
            everybody = len(self._lines) == self.count
        if not everybody:
            said = one_line(root_of(self._why)) if self._why else "Ray Train ended"
            self._arrivals.put(Failure(Kind.START, f"the workers did not start: {said}"))

    def _accept(self) -> None:
        """Meet every worker, and listen to each of them in a thread of its own."""
        with contextlib.suppress(OSError):
            while True:
                line = self._listener.accept()
                hello = json.loads(line.recv_bytes())
                rank, self.placement_group = hello["rank"], hello["placement_group"]
                with self._lock:
                    self._lines[rank] = line
                    if (message := self._waiting.pop(rank, None)) is not None:
                        line.send_bytes(json.dumps(message).encode())
                threading.Thread(target=self._listen, args=(rank, line), daemon=True).start()

    def _listen(self, rank: int, line: Connection) -> None:
        try:
            while True:
                self._arrivals.put((rank, json.loads(line.recv_bytes())))
        except (OSError, EOFError):
            self._ended.wait(WORD_SECONDS)
            said = f" ({one_line(root_of(self._why))})" if self._why else ""
            self._arrivals.put(Failure(Kind.LOST, f"worker {rank} of {self.count} was lost{said}"))


class _Trainer(DataParallelTrainer):
    """Ray Train's trainer, less what a trial does not need, with a controller that can be told to stop."""

    controller: Any = None

    def _create_default_callbacks(self) -> list[Any]:
        return [
            callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in NOT_NEEDED
        ]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        here = {NODE_ID_LABEL: ray.get_runtime_context().get_node_id()}
        self.controller = ray.remote(num_cpus=0, label_selector=here)(TrainController).remote(**arguments)
        ray.get(self.controller.run.remote())
        return ray.get(self.controller.get_result.remote())


def _trainer(constants: Mapping[str, Any], address: Any, key: bytes) -> _Trainer:
    workers = constants["workers"]
    resources = {"CPU": workers["cpus"]} | ({"GPU": workers["gpus"]} if workers["gpus"] else {})
    return _Trainer(
        serve_driver,
        train_loop_config={
            "address": address,
            "key": key.hex(),
            "train": constants["train"],
            "threads": max(1, int(workers["cpus"])),
        },
        backend_config=ProcessGroup("nccl" if workers["gpus"] else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers["count"], use_gpu=bool(workers["gpus"]), resources_per_worker=resources
        ),
        # A name of its own each time: the trials' checkpoints are the recipe's business, and a run is never restored.
        run_config=RunConfig(name=f"workers-{secrets.token_hex(4)}", storage_path=constants["train_storage"]),
    )


class _Wire:
    """A worker's end of its line."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Message) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError:
            raise DriverGoneError from None

    def receive(self) -> Message:
        try:
            message: Message = json.loads(self._connection.recv_bytes())
        except (OSError, EOFError):
            raise DriverGoneError from None
        return message


def serve_driver(config: Mapping[str, Any]) -> None:
    """A worker of the group, from Ray Train's start of it to its end."""
    import ray.train
    import torch

    rank, place = ray.train.get_context().get_world_rank(), ray.util.get_current_placement_group()
    torch.set_num_threads(config["threads"])
    line = _Wire(Client(tuple(config["address"]), authkey=bytes.fromhex(config["key"])))
    line.send({"rank": rank, "placement_group": place.id.hex() if place else None})
    serve(line, rank, config["train"])


def root_of(error: BaseException | None) -> BaseException:
    """What was raised in the worker that broke first, out of an error of Ray Train."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = failures[min(failures)]
    error = getattr(error, "controller_failure", None) or error
    return getattr(error, "cause", None) or error or RuntimeError("Ray Train ended without an error")
