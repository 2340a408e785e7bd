"""A stand-in for training, without a model: quick, deterministic, its behaviour chosen by `training.seed`."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from model.errors import NonFiniteLossError, OutOfMemoryError, TrainingInterruptedError, UserError
from model.recipe.recipe import Recipe
from model.runtime.stop_request import StopRequest
from model.strict import write_atomically

SUCCEEDS, RAISES, NAN_OBJECTIVE, LAGS, NON_FINITE, VARIES, DIES_ONCE, DISK_FULL, TOO_LARGE, REFUSED = range(10)
LEAVES_A_SUM = 10
Report = Callable[[dict[str, float]], bool | None]


def prepare(recipe: Recipe, run_parts: object = None) -> Recipe:
    """Nothing to prepare."""
    return recipe


def train(
    recipe: Recipe,
    folder: Path,
    report: Report,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Report a falling WER for each epoch, starting after the last epoch in the folder, then the final figures."""
    import torch.distributed as dist  # in the workers alone, as it takes seconds

    if parts_file:
        parts_file.touch()
    distributed = dist.is_initialized()
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    done = folder / "done"
    first = int(done.read_text()) + 1 if done.exists() else 1
    for epoch in range(first, recipe.training.epochs + 1):
        time.sleep(float(os.environ.get("STUB_SECONDS", "0.05")))
        _wait_for_gate(epoch)
        if epoch == 2:
            _fail(recipe.training.seed, folder, rank)
        if _stops(stop, distributed):
            raise TrainingInterruptedError(f"after epoch {epoch - 1}")
        last = {"last_epoch": 1.0} if epoch == recipe.training.epochs else {}
        proceed = report(_make_metrics(recipe, epoch, ranks) | last)
        if rank == 0:
            write_atomically(
                done, str(epoch)
            )  # after the report: an epoch whose report did not return is reported again
        if proceed is False:
            return
    metrics = _make_metrics(recipe, recipe.training.epochs, ranks)
    chosen = {name: value for name, value in metrics.items() if not name.startswith("train/")}
    tests = _make_test_metrics(recipe, folder, rank) if score_tests else {}
    report(chosen | {"dev/wer_final": metrics["dev/wer"] / 2, "finished": 1.0} | tests)


def _wait_for_gate(epoch: int) -> None:
    """Wait until the test lets trials train this epoch, where it says how far they may: in the file STUB_GATE."""
    while (gate := os.environ.get("STUB_GATE")) and int(Path(gate).read_text()) < epoch:
        time.sleep(0.02)


def _stops(stop: StopRequest | None, distributed: bool) -> bool:
    """Whether a rank is asked to stop; all ranks are here then."""
    import torch
    import torch.distributed as dist

    asked = torch.tensor(float(stop is not None and stop.is_made))
    if distributed:
        dist.all_reduce(asked)
    return bool(asked)


def _fail(kind: int, folder: Path, rank: int) -> None:
    errors = {
        RAISES: ValueError("the planted error\nof two lines"),
        NON_FINITE: NonFiniteLossError("loss is nan at step 7"),
        DISK_FULL: OSError(errno.ENOSPC, "No space left on device"),
        TOO_LARGE: OutOfMemoryError("one utterance does not fit"),
        REFUSED: UserError("no training utterance is left"),
    }
    if kind == LEAVES_A_SUM:  # memory runs out for worker 0 in its forward pass, for the others in their backward pass
        if rank:
            import torch
            import torch.distributed as dist

            dist.all_reduce(torch.ones(()), async_op=True)
        raise errors[TOO_LARGE]
    if kind in errors:
        raise errors[kind]
    if kind == DIES_ONCE and rank == int(os.environ.get("STUB_DIES", "0")):
        deaths_file = folder / "died"
        deaths = len(deaths_file.read_text()) if deaths_file.exists() else 0
        if deaths < int(os.environ.get("STUB_DEATHS", "1")):
            deaths_file.write_text("+" * (deaths + 1))
            os.kill(os.getpid(), signal.SIGKILL)


def _make_metrics(recipe: Recipe, epoch: int, ranks: int) -> dict[str, float]:
    kind = recipe.training.seed
    wer = {NAN_OBJECTIVE: math.nan, LAGS: 90.0, VARIES: 100 * recipe.loss.ctc_weight}.get(kind, 40.0)
    return {
        "epoch": epoch,
        "dev/wer": wer / epoch,
        "dev/ilm_perplexity": 9.0,
        "train/loss": 1.0 / epoch,
        "ranks": ranks,
    }


def _make_test_metrics(recipe: Recipe, folder: Path, rank: int) -> dict[str, float]:
    """With the new seeds of a confirmation, WERs vary with the seed and are two points higher without classifiers."""
    if rank == 0:
        (folder / "hypotheses").mkdir(exist_ok=True)
        (folder / "hypotheses" / "test-in.jsonl").write_text("{}\n")
    seed, classifiers = recipe.training.seed, len(recipe.loss.auxiliary.placement)
    wer = 11.0 if seed < 1000 else 11.0 + 0.1 * ((7 * seed + 3 * classifiers) % 5) + 2.0 * (classifiers == 0)
    return {"test/test-in/wer": wer, "in_domain/wer": wer, "out_of_domain/wer": 22.0}
