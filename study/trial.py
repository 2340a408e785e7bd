"""One trial: a Ray Train run that is watched from a driver, and what each of its workers does.

The driver only waits; the training happens in the workers, in `train`.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import re
import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.process_group import ProcessGroup
from model.recipe import Recipe
from study.reports import keep_report, reports_in

ERROR_FILE = "error-{rank}.txt"
ABORT_SECONDS = 10.0
NODE_ID_LABEL = "ray.io/node-id"

# Two helpers that Ray Train starts for every run, a process each, and that a trial has no use for: one serves
# Ray Data; the other removes the workers' placement group when a run was killed, which `abort` does in order
# (and which, without a dashboard, the helper cannot do at all).
NOT_NEEDED = ("DatasetsCallback", "PlacementGroupCleanerCallback")

# A rank whose peer died only sees its connection break; the peer's error is the one worth reading.
_ECHO = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket", re.IGNORECASE)


class TrialFailedError(Exception):
    """Training ended with an error; the message is its last line, e.g. `NonFiniteLossError: ...`."""


class TrainRun:
    """A Ray Train run in the background: its reports one by one, its end, and a way to stop it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._arrivals: queue.Queue[dict[str, float] | BaseException | None] = queue.Queue()
        key = secrets.token_bytes(16)
        self._listener = Listener(None, "AF_UNIX", authkey=key)
        self._trainer = _trainer(config, _Messenger(str(self._listener.address), key))
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._fit, daemon=True).start()

    def next_report(self) -> dict[str, float] | None:
        """The next epoch's metrics, or None when training is over; a TrialFailedError when it broke."""
        arrival = self._arrivals.get()
        if isinstance(arrival, BaseException):
            raise TrialFailedError(reason_of(arrival)) from None
        return arrival

    def abort(self) -> None:
        """End the workers and free their place, if they are not gone already."""
        controller = self._trainer.controller
        if controller is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_SECONDS)
            ray.kill(controller)  # one whose run has ended stays, and keeps its memory
        self._listener.close()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except (TrainingFailedError, ray.exceptions.RayError, OSError) as error:
            self._arrivals.put(error)
        else:
            self._arrivals.put(None)

    def _listen(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            connection = self._listener.accept()
            while True:
                self._arrivals.put(connection.recv())
                connection.send(True)  # so that the end of the run never overtakes its last report


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


class _Messenger(UserCallback):
    """Runs in Ray Train's controller, on the driver's machine, and hands the reports of worker 0 to the driver."""

    def __init__(self, address: str, key: bytes) -> None:
        self._address, self._key = address, key
        self._connection: Connection | None = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if self._connection is None:
            self._connection = Client(self._address, "AF_UNIX", authkey=self._key)
        self._connection.send(metrics[0])
        self._connection.recv()


def _trainer(config: Mapping[str, Any], messenger: _Messenger) -> _Trainer:
    workers = config["workers"]
    callbacks: list[Any] = [messenger]  # Ray's own annotation names a type of its first version
    resources = {"CPU": workers["cpus"]} | ({"GPU": workers["gpus"]} if workers["gpus"] else {})
    return _Trainer(
        train_in_worker,
        train_loop_config=dict(config),
        backend_config=ProcessGroup("nccl" if workers["gpus"] else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers["count"], use_gpu=bool(workers["gpus"]), resources_per_worker=resources
        ),
        # The same name in the same place is the same run to Ray Train.
        run_config=RunConfig(
            name=f"trial-{config['number']:04d}", storage_path=config["train_storage"], callbacks=callbacks
        ),
    )


def train_in_worker(config: Mapping[str, Any]) -> None:
    """Train the recipe on this worker's share; what is reported and what goes wrong is kept in the trial's folder."""
    import ray.train
    import torch

    folder, rank = Path(config["folder"]), ray.train.get_context().get_world_rank()
    torch.set_num_threads(max(1, int(config["workers"]["cpus"])))
    earlier = reports_in(folder)
    if earlier and earlier[-1].get("finished"):  # it ended while the study was being stopped, and nobody heard
        ray.train.report(earlier[-1])
        return

    def report(metrics: Mapping[str, float]) -> None:
        if rank == 0:
            keep_report(folder, metrics)
        ray.train.report(dict(metrics))

    try:
        resolve(config["train"])(Recipe.model_validate_json(config["recipe"]), folder, report)
    except Exception:
        (folder / ERROR_FILE.format(rank=rank)).write_text(traceback.format_exc(), encoding="utf-8")
        raise


def resolve(path: str) -> Callable[..., Any]:
    """The function behind `module:function`."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def reason_of(error: BaseException) -> str:
    """One line for an error of Ray Train: the root error of the worker that broke first."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        lines = [_line(failures[rank]) for rank in sorted(failures)]
        return next((line for line in lines if not _ECHO.search(line)), lines[0])
    return _line(getattr(error, "controller_failure", None) or error)


def _line(error: BaseException) -> str:
    error = getattr(error, "cause", None) or error  # a RayTaskError keeps what was raised as its cause
    text = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {text[-1]}" if text else type(error).__name__
