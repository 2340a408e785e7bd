"""No step of a training waits for the host, and batches are read into memory that a GPU copies from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from model.data.batches import Batch
from model.data.epoch_plan import DataPosition
from model.data.reading import read_shares
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training import loop
from model.training.epoch_statistics import EpochStatistics
from model.training.loop import choose_share, train_epoch
from model.training.optimiser import make_optimiser, train_step
from model.training.run import start_or_resume

pytestmark = pytest.mark.gpu


@contextlib.contextmanager
def refuse_waits() -> Iterator[None]:
    """Raise a RuntimeError where the host waits for the GPU in a copy, in reading a value or a shape."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_nothing(
    gpu: torch.device, make_model: Callable[..., Recogniser], batch: Batch, precision: str
) -> None:
    model = make_model("tiny", {"encoder.dropout": 0.1, "decoder.dropout": 0.1}).to(gpu).train()
    optimiser = make_optimiser(model, model.recipe.optimiser)
    pinned = batch.pin_memory()
    for _ in range(2):  # the first steps make the optimiser's state, and choose kernels
        train_step(model, [pinned.to(gpu)], optimiser, 1e-3, 1.0, precision)
    with refuse_waits():
        results = [train_step(model, [pinned.to(gpu), pinned.to(gpu)], optimiser, 1e-3, 1.0, precision)]
    assert results[0].find_fault() is None
    with refuse_waits(), pytest.raises(RuntimeError, match="synchroniz"):
        results[0].norm.item()


def test_an_epoch_waits_for_no_step_of_its_own(
    gpu: torch.device, noise_recipe: Callable[..., Recipe], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_or_resume(noise_recipe({"training.epochs": 2}), run_folder, current_context())
    train_epoch(run)  # the first steps make the optimiser's state, and choose kernels
    checked: list[int] = []

    def run_without_waits(run, step, progress, take=loop.run_step) -> float:
        with refuse_waits():
            rate = take(run, step, progress)
        checked.append(step.step)
        return rate

    def add_without_waits(self, step, rate, add=EpochStatistics.add) -> None:
        with refuse_waits():
            add(self, step, rate)

    monkeypatch.setattr(loop, "run_step", run_without_waits)
    monkeypatch.setattr(EpochStatistics, "add", add_without_waits)
    train_epoch(run)
    assert len(checked) > 1


@pytest.mark.parametrize("readers", [0, 1])
def test_batches_are_read_into_pinned_memory(
    gpu: torch.device, noise_recipe: Callable[..., Recipe], run_folder: Path, readers: int
) -> None:
    run = start_or_resume(noise_recipe({"data.readers": readers}), run_folder, current_context())
    plan, _ = run.training_set.plan_epoch(DataPosition(), None)
    with contextlib.closing(read_shares(run.training_set, [choose_share(run, batch) for batch in plan[:2]])) as read:
        for parts in read:
            for part in parts:
                assert part.features.is_pinned()
                assert part.lengths.is_pinned()
                assert part.labels.is_pinned()
                assert part.to(gpu).features.device == gpu
