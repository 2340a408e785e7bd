"""A stand-in for training that fails on planted nodes alone, and keeps in the trial's folder where it was started."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import ray
import stub_training

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.stop_request import StopRequest

PLANTED = "SICK_NODES"  # environment variable: a JSON file, Ray's id of a node -> how training fails there
STARTS = "starts.txt"
ERRORS = {
    "raises": RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    "has a full disk": OSError(errno.ENOSPC, "No space left on device", "/tmp/scratch"),
    "lacks the corpus": UserError("corpus /corpora/demo does not exist; mount it"),
}


def train(
    recipe: Recipe,
    folder: Path,
    report: stub_training.Report,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """As `stub_training.train`, where nothing is planted."""
    node_id = ray.get_runtime_context().get_node_id()
    with (folder / STARTS).open("a") as file:
        file.write(f"{node_id}\n")
    how = json.loads(Path(os.environ[PLANTED]).read_text()).get(node_id)
    if how is not None:
        raise ERRORS[how]
    stub_training.train(recipe, folder, report, score_tests, parts_file, stop)


def list_starts(folder: Path) -> list[str]:
    """Ray's ids of the nodes on which a trial's workers were started, in their order."""
    file = folder / STARTS
    return file.read_text().split() if file.exists() else []
