"""One recipe trained on this machine by as many workers as it was trained by before, without Ray.

With the same number of workers and threads, versions and machine, the same recipe gives the same figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from model.recipe.recipe import Recipe
from study.execution.model_facts import METRICS_FILE

LOOPBACK = "lo"


def choose_workers(asked: int) -> int:
    """How many of the workers that a training had can train here: all on CPUs, on GPUs as many as there are GPUs."""
    import torch

    return asked if not torch.cuda.is_available() else min(asked, torch.cuda.device_count())


def train_again(recipe: Recipe, folder: Path, workers: int, threads: int) -> dict[str, float]:
    """Train the recipe to its end in a folder, or continue it there; the metrics of its chosen weights.

    Each of the workers computes with `threads` threads. Reports are appended to metrics.jsonl in the folder.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            _train(recipe, folder)
        finally:
            torch.set_num_threads(before)
    else:
        rendezvous = folder / ".rendezvous"
        rendezvous.unlink(missing_ok=True)
        arguments = (workers, recipe.model_dump_json(), str(folder), threads, rendezvous.resolve().as_uri())
        torch.multiprocessing.spawn(_train_rank, arguments, nprocs=workers)
        rendezvous.unlink(missing_ok=True)
    lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    last: Mapping[str, float] = json.loads(lines[-1])
    return dict(last)


def _train_rank(rank: int, workers: int, recipe: str, folder: str, threads: int, rendezvous: str) -> None:
    """One of several workers, in a process of its own."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", rendezvous, None, workers, rank)
    try:
        _train(Recipe.model_validate_json(recipe), Path(folder), writes=rank == 0)
    finally:
        dist.destroy_process_group()


def _train(recipe: Recipe, folder: Path, writes: bool = True) -> None:
    from model.commands.formatting import format_epoch
    from model.training.loop import train

    def report(metrics: dict[str, float]) -> None:
        if writes:
            with (folder / METRICS_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(metrics) + "\n")
            print(format_epoch(metrics, recipe.training.epochs), flush=True)

    train(recipe, folder, report)
