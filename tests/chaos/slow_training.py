"""The real training, slow in its first epoch; each step is written down with the node that took it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest import mock

import ray

from model.recipe.recipe import Recipe
from model.training import loop

STEPS = "steps.txt"  # in a trial's folder: Ray's id of the node, epoch and step of each step of rank 0
STEP_SECONDS = 1.5  # in the first epoch


def train(recipe: Recipe, folder: Path, *arguments: Any) -> None:
    """As `loop.train`."""
    run_step = loop.run_step

    def run_slow_step(run: loop.TrainingRun, step: loop.TrainingStep, progress: float) -> float:
        if run.context.rank == 0:
            with (folder / STEPS).open("a") as file:
                file.write(f"{ray.get_runtime_context().get_node_id()} {step.epoch} {step.step}\n")
        if step.epoch == 1:
            time.sleep(STEP_SECONDS)
        return run_step(run, step, progress)

    with mock.patch.object(loop, "run_step", run_slow_step):
        loop.train(recipe, folder, *arguments)


def read_steps(folder: Path) -> list[tuple[str, int, int]]:
    """The node, the epoch and the step of each step that was taken so far."""
    file = folder / STEPS
    lines = file.read_text().splitlines() if file.exists() else []
    return [(node, int(epoch), int(step)) for node, epoch, step in map(str.split, lines)]
