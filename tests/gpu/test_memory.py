"""A GPU that is short of memory, for real: all but a part of it is taken before."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.runtime.memory import peak_memory_bytes, release_memory, reset_peak_memory
from model.training.loop import choose_accumulation, train_epoch
from model.training.run import TrainingRun, start_or_resume

pytestmark = pytest.mark.gpu
LARGE = {"data.batch_seconds": 480.0, "data.buckets": 1, "encoder.width": 256, "encoder.heads": 4, "encoder.layers": 6}


@contextlib.contextmanager
def leave(bytes_left: int) -> Iterator[None]:
    """Take the GPU's memory but for so many bytes, while the block runs."""
    release_memory()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, free - bytes_left), dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del taken
        release_memory()


@pytest.fixture
def run(gpu: torch.device, noise_recipe: Callable[..., Recipe], run_folder: Path) -> TrainingRun:
    return start_or_resume(noise_recipe(LARGE | {"training.epochs": 2}), run_folder, current_context())


def measure_epoch(run: TrainingRun) -> int:
    """Bytes that an epoch of whole batches takes beyond what there was before it."""
    before = torch.cuda.memory_allocated()
    reset_peak_memory(run.context.device)
    train_epoch(run)
    return peak_memory_bytes(run.context.device) - before


def test_the_probe_splits_what_does_not_fit(run: TrainingRun) -> None:
    choose_accumulation(run)
    assert set(run.parts) == {1}
    needed = measure_epoch(run)
    with leave(needed // 2):
        choose_accumulation(run)
        assert max(run.parts) > 1
        train_epoch(run)
    assert run.state.losses["train/accumulate"] > 1
    assert math.isfinite(run.state.losses["train/loss"])


def test_a_step_that_does_not_fit_is_split(run: TrainingRun) -> None:
    needed = measure_epoch(run)
    assert set(run.parts) == {1}
    with leave(needed // 2):
        train_epoch(run)
    assert max(run.parts) > 1
    assert run.state.losses["train/skipped"] == 0
    assert math.isfinite(run.state.losses["train/loss"])
