"""What each worker of a trial does: it takes recipe after recipe, trains it, and tells what came of it.

A worker is a thread of the trial's driver, or one of the processes of a standing group. It hears and speaks over a
`Line`: both sides send dictionaries with a `kind`.

    driver -> worker   task {recipe, recipe_hash, folder}, answer {go_on}, end
    worker -> driver   runs {recipe_hash}, report {metrics}, done, broke {failure, reason, clean}
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from model.errors import NonFiniteLossError, OutOfMemoryError, UserError
from model.recipe.recipe import Recipe
from study.workers.failure import Kind, is_disk_full

ERROR_FILE = "error-{rank}.txt"
Message = dict[str, Any]

# After these every worker has left training at the same place, so that a group can take the next recipe.
_CLEAN = (NonFiniteLossError, OutOfMemoryError, UserError)


class DriverGoneError(Exception):
    """The other end of a line is gone."""


class Line(Protocol):
    """A worker's end of its line to the driver; a DriverGoneError when nobody is there."""

    def send(self, message: Message) -> None: ...
    def receive(self) -> Message: ...


def serve(line: Line, rank: int, train: str) -> None:
    """Train what the driver sends, with `train` ("module:function"), until it says that there is no more."""
    first = True
    with contextlib.suppress(DriverGoneError):
        while (message := line.receive())["kind"] == "task":
            line.send(_run(message, line, rank, train))
            gc.collect()  # the model before the next one, whose place it holds
            if first:
                gc.freeze()  # all that is imported now stays: no collection has to look at it again
            first = False


def _run(task: Message, line: Line, rank: int, train: str) -> Message:
    folder = Path(task["folder"])

    def report(metrics: Mapping[str, float]) -> bool:
        # What worker 0 has measured is that of all.
        line.send({"kind": "report", "metrics": dict(metrics) if rank == 0 else {}})
        return bool(line.receive()["go_on"])

    try:
        recipe = Recipe.model_validate_json(task["recipe"])
        line.send({"kind": "runs", "recipe_hash": recipe.hash})
        resolve(train)(recipe, folder, report)
    except DriverGoneError:
        raise
    except Exception as error:
        return _broke(error, folder, rank)
    return {"kind": "done"}


def _broke(error: Exception, folder: Path, rank: int) -> Message:
    with contextlib.suppress(OSError):  # on a full disk the reason is told all the same
        (folder / ERROR_FILE.format(rank=rank)).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    kind = kind_of(error)
    clean = isinstance(error, _CLEAN) and kind is not Kind.DISK_FULL  # which the worker that writes meets alone
    return {"kind": "broke", "failure": kind.value, "reason": one_line(error), "clean": clean}


def kind_of(error: BaseException) -> Kind:
    """What kind of failure an error in training is; a full disk says nothing of the recipe, whatever its words."""
    if is_disk_full(error):
        return Kind.DISK_FULL
    if isinstance(error, NonFiniteLossError):
        return Kind.NON_FINITE
    if isinstance(error, OutOfMemoryError):
        return Kind.OUT_OF_MEMORY
    return Kind.IMPOSSIBLE if isinstance(error, UserError) else Kind.ERROR


def one_line(error: BaseException) -> str:
    """An error's kind and the last line of what it says."""
    text = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {text[-1]}" if text else type(error).__name__


def resolve(path: str) -> Callable[..., Any]:
    """The function behind `module:function`."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
