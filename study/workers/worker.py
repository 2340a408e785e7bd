"""What each worker of a trial does: it takes recipe after recipe, trains it, and reports to the trial's driver.

A worker is a thread of the driver's process, or one of the processes of a standing group under Ray Train.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from model.errors import NonFiniteLossError, OutOfMemoryError, SplitFurtherError, TrainingInterruptedError, UserError
from model.recipe.recipe import Recipe
from model.runtime.progress import follow_progress
from model.runtime.stop_request import StopRequest
from model.weights.object_store import StoreError
from study.workers.failure import FailureKind, is_disk_full
from study.workers.messages import (
    Answer,
    Done,
    Failed,
    Interrupted,
    Progress,
    Report,
    Running,
    Task,
    ToDriver,
    ToWorker,
)
from study.workers.placement import find_own_node
from study.workers.stall import SignSender
from study.workers.storage import StorageError, check_storage

ERROR_FILE = "error-{rank}.txt"

# After these every worker has left training at the same place, so that a group can take the next recipe.
_REUSABLE_AFTER = (NonFiniteLossError, OutOfMemoryError, UserError)


class DriverGoneError(Exception):
    """The other end of a channel is gone."""


class Channel(Protocol):
    """A worker's end of its connection to the driver; a DriverGoneError where the driver is gone."""

    stop: StopRequest  # of the task that was received last; an Interrupt makes it, and is not received

    def send(self, message: ToDriver) -> None: ...
    def receive(self) -> ToWorker: ...


def serve(channel: Channel, rank: int, train: str, stacks_file: str | None = None) -> None:
    """Train what the driver sends, with `train` ("module:function"), until it closes the channel.

    `stacks_file` is what this process writes its stacks into after SIGUSR1, where it does.
    """
    first = True
    with contextlib.suppress(DriverGoneError):
        while isinstance(task := channel.receive(), Task):
            channel.send(_run(task, channel, rank, train, stacks_file))
            gc.collect()  # the model before the next one, whose place it holds
            if first:
                gc.freeze()  # all that is imported now stays: no collection has to look at it again
            first = False


def _run(task: Task, channel: Channel, rank: int, train: str, stacks_file: str | None) -> Done | Failed | Interrupted:
    folder, waited = Path(task.folder), None
    node, node_id = find_own_node()

    def report(metrics: Mapping[str, float]) -> bool:
        nonlocal waited
        sent = time.monotonic()
        # Metrics are reduced over all workers, so those of worker 0 are enough.
        channel.send(Report(dict(metrics), waited, node, device) if rank == 0 else Report())
        answer = channel.receive()
        waited = time.monotonic() - sent
        if not isinstance(answer, Answer):  # whether the study has the report is not known: it is made again
            raise DriverGoneError
        return answer.proceed

    try:
        check_storage(task)
        recipe, device = Recipe.model_validate_json(task.recipe), _device()
        channel.send(Running(recipe.hash, node, device, node_id, os.getpid(), stacks_file))
        parts_file = task.parts_file and Path(task.parts_file)
        with follow_progress(SignSender(lambda: _send_progress(channel))):
            load_function(train)(recipe, folder, report, task.score_tests, parts_file, channel.stop)
    except DriverGoneError:
        raise
    except TrainingInterruptedError as interruption:
        return Interrupted(str(interruption), node, node_id)
    except Exception as error:
        return replace(_make_failed(error, folder, rank), node=node, node_id=node_id)
    return Done()


def _send_progress(channel: Channel) -> None:
    with contextlib.suppress(DriverGoneError):  # the next report finds that the driver is gone
        channel.send(Progress())


def _device() -> str:
    """The name of this worker's GPU, or cpu."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _make_failed(error: Exception, folder: Path, rank: int) -> Failed:
    kind = classify_error(error)
    if kind is not FailureKind.SPLIT:  # the trial goes on, and nothing is wrong with it
        with contextlib.suppress(OSError):  # on a full disk the reason is sent without the file
            text = "".join(traceback.format_exception(error))
            (folder / ERROR_FILE.format(rank=rank)).write_text(text, encoding="utf-8")
    is_explained = kind in (FailureKind.STORAGE, FailureKind.OBJECT_STORE, FailureKind.SPLIT)
    reason = str(error) if is_explained else one_line(error)
    # Only the worker that writes gets the error of a full disk, or of a store.
    is_common = kind not in (FailureKind.DISK_FULL, FailureKind.OBJECT_STORE)
    return Failed(kind, reason, _is_reusable(error) and is_common)


def _is_reusable(error: Exception) -> bool:
    """Whether this process can take part in the next recipe.

    Where memory ran out for one of several workers in its forward pass, and for another in its backward pass, the sum
    of gradients that the other had begun is still under way: the first sum of the next recipe would meet it.
    """
    from model.runtime.distributed import current_context

    if isinstance(error, OutOfMemoryError) and current_context().world_size > 1:
        return False
    return isinstance(error, _REUSABLE_AFTER)


def classify_error(error: BaseException) -> FailureKind:
    """The kind of failure of an error in training; a full disk comes first, whatever the type of the error.

    That of a store, or of a machine's copies of what is there, is not the one that holds the study.
    """
    if isinstance(error, StoreError):
        return FailureKind.OBJECT_STORE
    if is_disk_full(error):
        return FailureKind.DISK_FULL
    if isinstance(error, StorageError):
        return FailureKind.STORAGE
    if isinstance(error, NonFiniteLossError):
        return FailureKind.NON_FINITE
    if isinstance(error, SplitFurtherError):
        return FailureKind.SPLIT
    if isinstance(error, OutOfMemoryError):
        return FailureKind.OUT_OF_MEMORY
    return FailureKind.IMPOSSIBLE if isinstance(error, UserError) else FailureKind.ERROR


def one_line(error: BaseException) -> str:
    """An error's kind and the last line of its message."""
    text = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {text[-1]}" if text else type(error).__name__


def load_function(path: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
