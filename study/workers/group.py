"""A standing group of workers under Ray Train: processes and process group stay, recipe after recipe.

Starting a Ray Train run costs ten seconds on a small machine, rebuilding a model almost nothing. So one run of Ray
Train serves all trials of a driver: each of its workers has a connection of its own to the driver, over which recipes
come.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.process_group import ProcessGroup
from study.workers.crew import Crew
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Close, CrewConfig, ToDriver, ToWorker, decode, encode
from study.workers.worker import DriverGoneError, one_line, serve

ABORT_SECONDS = 10.0
CAUSE_SECONDS = 2.0  # for Ray to report how a worker ended whose connection was closed
NODE_ID_LABEL = "ray.io/node-id"

# Two helpers that Ray Train starts for every run, a process each, and that a trial has no use for: one serves
# Ray Data; the other removes the workers' placement group when a run was killed, which `close` does in order, and
# `study.execution.tune` where the driver itself was killed.
NOT_NEEDED = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class Group(Crew):
    """Workers of a Ray Train run that lasts until `close`, on any machines of the cluster."""

    def __init__(self, config: CrewConfig) -> None:
        super().__init__(config.count)
        self._arrivals: queue.Queue[tuple[int, ToDriver] | Failure] = queue.Queue()
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}
        self._unsent: dict[int, ToWorker] = {}  # messages for workers that are not connected yet
        self._lost: int | None = None  # the first worker whose connection was closed; Ray Train then ends the others
        self._ended = threading.Event()
        self._error: BaseException | None = None
        key = secrets.token_bytes(16)
        self._listener = Listener((ray.util.get_node_ip_address(), 0), authkey=key)
        self._trainer = _make_trainer(config, self._listener.address, key)
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._fit, daemon=True).start()

    def _send(self, rank: int, message: ToWorker) -> None:
        with self._lock:
            if rank not in self._connections:
                self._unsent[rank] = message
                return
            with contextlib.suppress(OSError):
                self._connections[rank].send_bytes(encode(message))

    def _receive(self, seconds: float) -> tuple[int, ToDriver] | Failure | None:
        try:
            return self._arrivals.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the workers and free their place."""
        self._listener.close()
        for rank in range(self.count):
            self._send(rank, Close())
        controller = self._trainer.controller
        if controller is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_SECONDS)
            ray.kill(controller)  # one whose run has ended stays, and keeps its memory

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # Ray raises its own kinds, and those of the workers
            self._error = error
        self._ended.set()
        with self._lock:
            complete = len(self._connections) == self.count
        if not complete:
            reason = one_line(root_cause(self._error)) if self._error else "Ray Train ended"
            self._arrivals.put(Failure(FailureKind.START, f"the workers did not start: {reason}"))

    def _accept(self) -> None:
        """Accept every worker's connection, and read each of them in a thread of its own."""
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()
                rank, self.placement_group = json.loads(connection.recv_bytes())
                with self._lock:
                    self._connections[rank] = connection
                    if (message := self._unsent.pop(rank, None)) is not None:
                        connection.send_bytes(encode(message))
                threading.Thread(target=self._read, args=(rank, connection), daemon=True).start()

    def _read(self, rank: int, connection: Connection) -> None:
        try:
            while True:
                self._arrivals.put((rank, decode(connection.recv_bytes())))
        except (OSError, EOFError):
            with self._lock:
                self._lost = rank if self._lost is None else self._lost
            self._ended.wait(CAUSE_SECONDS)
            reason = f" ({one_line(root_cause(self._error))})" if self._error else ""
            self._arrivals.put(Failure(FailureKind.LOST, f"worker {self._lost} of {self.count} was lost{reason}"))


class _Trainer(DataParallelTrainer):
    """Ray Train's trainer, less what a trial does not need, with a controller that can be stopped."""

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


def _make_trainer(config: CrewConfig, address: Any, key: bytes) -> _Trainer:
    resources = {"CPU": config.cpus} | ({"GPU": config.gpus} if config.gpus else {})
    return _Trainer(
        serve_driver,
        train_loop_config={"connection": _ConnectionConfig(address, key.hex(), config.train, max(1, int(config.cpus)))},
        backend_config=ProcessGroup("nccl" if config.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.count, use_gpu=bool(config.gpus), resources_per_worker=resources
        ),
        # A name of its own each time: the trials' checkpoints are the recipe's business, and a run is never restored.
        run_config=RunConfig(name=f"workers-{secrets.token_hex(4)}", storage_path=config.storage),
    )


@dataclass(frozen=True)
class _ConnectionConfig:
    """What a worker needs to reach its driver and to serve it."""

    address: tuple[str, int]
    key: str  # hexadecimal
    train: str  # module:function
    threads: int


class _SocketChannel:
    """A worker's end of its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: ToDriver) -> None:
        try:
            self._connection.send_bytes(encode(message))
        except OSError:
            raise DriverGoneError from None

    def receive(self) -> ToWorker:
        try:
            message: ToWorker = decode(self._connection.recv_bytes())
        except (OSError, EOFError):
            raise DriverGoneError from None
        return message


def serve_driver(config: Mapping[str, _ConnectionConfig]) -> None:
    """A worker of the group, from Ray Train's start of it to its end."""
    import ray.train
    import torch

    rank, place = ray.train.get_context().get_world_rank(), ray.util.get_current_placement_group()
    driver = config["connection"]
    torch.set_num_threads(driver.threads)
    connection = Client(driver.address, authkey=bytes.fromhex(driver.key))
    connection.send_bytes(json.dumps([rank, place.id.hex() if place else None]).encode())
    serve(_SocketChannel(connection), rank, driver.train)


def root_cause(error: BaseException | None) -> BaseException:
    """The error of the worker that failed first, from an error of Ray Train."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = failures[min(failures)]
    error = getattr(error, "controller_failure", None) or error
    return getattr(error, "cause", None) or error or RuntimeError("Ray Train ended without an error")
