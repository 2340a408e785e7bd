"""Training without a model: what a worker does is chosen by `training.seed`, quick and the same every time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed

from model.errors import NonFiniteLossError
from model.recipe import Recipe

WELL, RAISES, NO_NUMBER, LAGS, NON_FINITE = 0, 1, 2, 3, 4


def prepare(recipe: Recipe) -> Recipe:
    """Nothing to prepare."""
    return recipe


def train(recipe: Recipe, folder: Path, report: Callable[[dict[str, float]], None]) -> None:
    """Report a falling WER for each epoch, going on from the epoch that the folder tells."""
    kind, ranks = recipe.training.seed, torch.distributed.get_world_size()
    done = folder / "done"
    first = int(done.read_text()) + 1 if done.exists() else 1
    for epoch in range(first, recipe.training.epochs + 1):
        time.sleep(float(os.environ.get("STUB_SECONDS", "0.05")))
        if kind == RAISES and epoch == 2:
            raise ValueError("the planted error\nof two lines")
        if kind == NON_FINITE and epoch == 2:
            raise NonFiniteLossError("loss is nan at step 7")
        torch.distributed.barrier()
        if torch.distributed.get_rank() == 0:
            done.write_text(str(epoch))
        report(_metrics(kind, epoch, ranks) | (_final(folder) if epoch == recipe.training.epochs else {}))


def _metrics(kind: int, epoch: int, ranks: int) -> dict[str, float]:
    wer = {NO_NUMBER: math.nan, LAGS: 90.0}.get(kind, 40.0)
    return {
        "epoch": epoch,
        "dev/wer": wer / epoch,
        "dev/ilm_perplexity": 9.0,
        "train/loss": 1.0 / epoch,
        "ranks": ranks,
    }


def _final(folder: Path) -> dict[str, float]:
    if torch.distributed.get_rank() == 0:
        (folder / "hypotheses").mkdir(exist_ok=True)
        (folder / "hypotheses" / "test-in.jsonl").write_text("{}\n")
    return {"finished": 1.0, "test/test-in/wer": 11.0, "in_domain/wer": 11.0, "out_of_domain/wer": 22.0}
