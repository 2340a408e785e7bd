"""Trainings of one and of two workers in a process group, with the backend that their devices allow.

nccl refuses two workers on one GPU: there, gloo carries the GPU's gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import FORKSERVER
from safetensors.torch import load_file
from torch import Tensor

from cluster.resources import _count_visible_gpus
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training.loop import train

SECONDS = 120


def _train(rank: int, workers: int, backend: str, recipe: Recipe, folder: Path) -> None:
    torch.set_num_threads(1)
    if backend == "nccl" or torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    dist.init_process_group(backend, f"file://{folder}-rendezvous", rank=rank, world_size=workers)
    assert current_context().world_size == workers
    train(recipe, folder, lambda metrics: None)
    dist.destroy_process_group()


def weights_of(folder: Path, workers: int, backend: str, recipe: Recipe) -> dict[str, Tensor]:
    arguments = (workers, backend, recipe, folder)
    processes = [FORKSERVER.Process(target=_train, args=(rank, *arguments), daemon=True) for rank in range(workers)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(SECONDS)
        assert [process.exitcode for process in processes] == [0] * workers
    finally:
        for process in processes:
            process.kill()
    return load_file(folder / "chosen" / "model.safetensors")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_in_a_group_learn_what_one_learns_alone(
    device: torch.device, noise_recipe: Callable[..., Recipe], tmp_path: Path, workers: int
) -> None:
    enough = torch.cuda.device_count() >= workers
    backend = "nccl" if device.type == "cuda" and enough else "gloo"
    recipe = noise_recipe({"encoder.dropout": 0.0, "decoder.dropout": 0.0, "optimiser.learning_rate": 1e-4})
    train(recipe, tmp_path / "alone", lambda metrics: None)
    alone = load_file(tmp_path / "alone" / "chosen" / "model.safetensors")
    group = weights_of(tmp_path / "group", workers, backend, recipe)
    ours, theirs = (torch.cat([one[name].flatten() for name in sorted(one)]) for one in (group, alone))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-3


@pytest.mark.gpu
def test_the_gpus_that_a_machine_counts_are_those_that_torch_sees(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _count_visible_gpus() == torch.cuda.device_count()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _count_visible_gpus() >= torch.cuda.device_count()
