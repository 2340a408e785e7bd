"""Trainings that hang once, in their second epoch, and go on to their end when they are tried again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import stub_training
import torch
import torch.distributed as dist

from model.data.batches import TrainingSet
from model.recipe.recipe import Recipe
from model.runtime.stop_request import StopRequest
from model.training import loop

FOR_EVER = 3600.0  # seconds
HUNG = "hung"  # a file in a trial's folder, once it has hung


def hangs_now(folder: Path) -> bool:
    """Whether this is the first time."""
    try:
        (folder / HUNG).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def read_silent_file(folder: Path) -> None:
    """A read that never returns, as of a network file system whose server is away: nobody writes into the pipe."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    pipe.read_bytes()


def train_with_hung_reader(recipe: Recipe, folder: Path, *arguments: Any, **more: Any) -> None:
    """The real training; the thread that reads its data hangs."""
    load_share = TrainingSet.load_share

    def load(self: TrainingSet, *given: Any) -> Any:
        if list(folder.glob("checkpoints/epoch-*")) and hangs_now(folder):
            read_silent_file(folder)
        return load_share(self, *given)

    with mock.patch.object(TrainingSet, "load_share", load):
        loop.train(recipe, folder, *arguments, **more)


def train_with_hung_scoring(recipe: Recipe, folder: Path, *arguments: Any, **more: Any) -> None:
    """The real training; the scoring of what it has chosen hangs, in the end."""
    score_chosen = loop.score_chosen

    def score(*given: Any) -> Any:
        if hangs_now(folder):
            read_silent_file(folder)
        return score_chosen(*given)

    with mock.patch.object(loop, "score_chosen", score):
        loop.train(recipe, folder, *arguments, **more)


def train_with_hung_rank(recipe: Recipe, folder: Path, report: Any, *arguments: Any) -> None:
    """The stand-in; rank 1 hangs while rank 0 waits for it in an all_reduce."""

    def report_then_hang(metrics: dict[str, float]) -> bool | None:
        answer: bool | None = report(metrics)
        if dist.get_rank() == 1 and metrics["epoch"] == 1 and hangs_now(folder):
            time.sleep(FOR_EVER)
        dist.all_reduce(torch.zeros(1))
        return answer

    stub_training.train(recipe, folder, report_then_hang, *arguments)


def train_with_stopped_rank(recipe: Recipe, folder: Path, report: Any, *arguments: Any) -> None:
    """The stand-in; rank 1's process stops itself, as SIGSTOP from outside would."""

    def report_then_stop(metrics: dict[str, float]) -> bool | None:
        answer: bool | None = report(metrics)
        if dist.get_rank() == 1 and metrics["epoch"] == 1 and hangs_now(folder):
            os.kill(os.getpid(), signal.SIGSTOP)
        dist.all_reduce(torch.zeros(1))
        return answer

    stub_training.train(recipe, folder, report_then_stop, *arguments)


def train_with_stopped_driver(
    recipe: Recipe,
    folder: Path,
    report: Any,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """The stand-in; the process of driver and worker stops itself."""

    def report_then_stop(metrics: dict[str, float]) -> bool | None:
        answer: bool | None = report(metrics)
        if metrics["epoch"] == 1 and hangs_now(folder):
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    stub_training.train(recipe, folder, report_then_stop, score_tests, parts_file, stop)


def prepare_for_ever(recipe: Recipe, run_parts: object = None) -> Recipe:
    """A preparation whose first read never returns; the current folder is the study's."""
    read_silent_file(Path.cwd())
    return recipe
