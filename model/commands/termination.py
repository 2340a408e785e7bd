"""SIGTERM while a recipe is trained, as Slurm and Kubernetes send it before they take a machine away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import typer

from model.errors import TrainingInterruptedError
from model.runtime.stop_request import StopRequest

TERMINATED = 128 + signal.SIGTERM  # the exit code of a program that SIGTERM ended: 143


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """A request for the training in this block, which SIGTERM makes; the program then ends with exit code 143.

    Where no step has to be saved, as while a set is scored, the block ends at once. For the main thread.
    """
    stop = StopRequest()

    def handle(kind: int, frame: FrameType | None) -> None:
        stop.make()
        if not stop.has_unsaved_steps:
            raise TrainingInterruptedError("between two epochs")

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield stop
    except TrainingInterruptedError as error:
        typer.echo(f"SIGTERM stopped training {error}; the same command continues from there", err=True)
        raise typer.Exit(TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
