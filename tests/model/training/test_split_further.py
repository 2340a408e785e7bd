"""A step that runs out of memory on one of several workers: it ends the try, and the next one splits further."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import SECONDS, WorkerPair, start_group
from training_runs import ALONE, assert_same_weights, read_chosen_weights, without_clock

from model.errors import SplitFurtherError, UserError
from model.network.losses import Losses
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext, current_context
from model.training import kept_parts, loop, optimiser
from model.training.kept_parts import make_key, read_needed, read_needed_by, write_needed
from model.training.optimiser import GradientMemoryError
from model.training.run import TrainingRun, start_or_resume
from model.training.step_memory import take_in_memory

VALUES = {
    "data.batch_seconds": 20.0,
    "data.buckets": 1,
    "training.epochs": 1,
    "training.epoch_steps": 2,
    "encoder.dropout": 0.1,
}
SPLIT, DIED = 3, 4  # exit codes of the ranks of a try
CPU = torch.device("cpu")


def limit_steps(patch: pytest.MonkeyPatch, most: int, first_step: int = 0) -> None:
    """From so many parts on that were taken, let a step run out of memory for more than `most` utterances.

    The memory probe, which is another function's caller, finds that all fit.
    """
    taken: list[int] = []

    def accumulate(model, part, *others, accumulate=optimiser.accumulate_gradients) -> Losses:
        taken.append(len(part.ids))
        if len(taken) > first_step and len(part.ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB")
        return accumulate(model, part, *others)

    patch.setattr(optimiser, "accumulate_gradients", accumulate)


def _train_until_memory_ends(rank: int, recipe: Recipe, folder: Path, most: int, first_step: int) -> None:
    """Rank 1 is short of memory; either rank ends its process, as one that is no longer of use."""
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            limit_steps(patch, most, first_step)
        try:
            loop.train(recipe, folder, lambda metrics: None)
        except SplitFurtherError as error:
            (folder / "message").write_text(str(error))
            os._exit(SPLIT)
        except RuntimeError:  # of gloo, whose peer is gone
            os._exit(DIED)


def _train_in_little_memory(rank: int, recipe: Recipe, folder: Path, most: int) -> list[dict[str, float]]:
    reports: list[dict[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            limit_steps(patch, most)
        loop.train(recipe, folder, reports.append)
    return reports


def _train_in_parts(rank: int, recipe: Recipe, folder: Path, parts: int) -> list[dict[str, float]]:
    """In so many parts from the start, since rank 0 has written down that it needs them."""
    reports: list[dict[str, float]] = []
    write_needed(folder, 0, make_key(recipe, current_context()), (parts,))
    loop.train(recipe, folder, reports.append)
    return reports


def try_once(folder: Path, *arguments: Any) -> str:
    """Two workers train until one runs out of memory, which no other one outlasts; what it said."""
    processes = start_group(folder.with_name(f"{folder.name}-group"), _train_until_memory_ends, *arguments)
    for process in processes:
        process.join(SECONDS)
    assert [process.exitcode for process in processes] == [DIED, SPLIT], "neither hangs"
    return (folder / "message").read_text()


def test_what_one_of_two_workers_cannot_take_is_split_when_training_is_started_again(
    make_recipe, tmp_path: Path, worker_pair: WorkerPair
) -> None:
    recipe, run, split = make_recipe(VALUES), tmp_path / "run", tmp_path / "split"
    training_set = start_or_resume(recipe, tmp_path / "plan", ALONE).training_set
    largest = max(len(batch) // 2 for batch in training_set.plan_pass(0))
    assert largest >= 4
    message = try_once(run, recipe, run, -(-largest // 2), 0)
    assert message == (
        "out of memory at epoch 1, step 1 on worker 1 of 2 (CUDA out of memory); the training that is started again "
        "goes on from its last checkpoint, with batches of such lengths in 2 parts"
    )
    assert not list(run.glob("broken-batch-1*")), "the batch is not broken"
    reports, _ = worker_pair.run(_train_in_little_memory, recipe, run, -(-largest // 2))
    expected, _ = worker_pair.run(_train_in_parts, recipe, split, 2)
    assert reports[0]["train/accumulate"] == 2.0
    assert [without_clock(metrics) for metrics in reports] == [without_clock(metrics) for metrics in expected]
    assert_same_weights(run, split)


@pytest.mark.slow
def test_it_goes_on_from_the_checkpoint_and_may_split_twice(
    make_recipe, tmp_path: Path, worker_pair: WorkerPair
) -> None:
    recipe, run = make_recipe(VALUES | {"training.epochs": 2, "training.epoch_steps": None}), tmp_path / "run"
    training_set = start_or_resume(recipe, tmp_path / "plan", ALONE).training_set
    first, second = (training_set.plan_pass(number) for number in range(2))
    largest = max(len(batch) // 2 for batch in second)
    assert largest > 2, "or it is not split twice"
    try_once(run, recipe, run, 1, len(first))  # in the second epoch
    needed = run / kept_parts.NEEDED.format(rank=1)
    assert list(json.loads(needed.read_text()).values()) == [[2]]
    run.with_name("run-group").rename(tmp_path / "first-group")
    assert try_once(run, recipe, run, 1, 0).endswith("in 4 parts")
    assert list(json.loads(needed.read_text()).values()) == [[4]]
    reports, _ = worker_pair.run(_train_in_little_memory, recipe, run, -(-largest // 4))
    assert [metrics["epoch"] for metrics in reports if "train/loss" in metrics] == [2]
    assert read_chosen_weights(run)


@pytest.fixture
def rank_1(make_recipe, run_folder: Path) -> TrainingRun:
    """A run as rank 1 of 2 has it, with steps of eight utterances or more."""
    run = start_or_resume(make_recipe(VALUES), run_folder, ALONE)
    run.context = DistributedContext(1, 2, CPU)
    return run


def fail(run: TrainingRun) -> Exception:
    """The error of a step whose gradients never fit; the run is then as it was."""
    parts = run.parts
    batch = loop.PlannedBatch(0, max(run.training_set.plan_pass(0), key=len))
    step = loop.TrainingStep(1, 1, 1, batch, run.training_set.load_share(batch.rows, 1, 2, 1, "0/0"))

    def take() -> None:
        raise GradientMemoryError("CUDA out of memory")

    with pytest.raises((SplitFurtherError, GradientMemoryError)) as caught:
        take_in_memory(run, step, take)  # type: ignore[arg-type]
    run.parts = parts
    return caught.value


def test_tries_end_even_where_what_was_written_down_is_never_followed(rank_1: TrainingRun) -> None:
    utterances = max(len(batch) // 2 for batch in rank_1.training_set.plan_pass(0))
    key, errors, written = make_key(rank_1.recipe, rank_1.context), list[Exception](), list[int]()
    while not errors or isinstance(errors[-1], SplitFurtherError):
        errors.append(fail(rank_1))
        (count,) = read_needed_by(rank_1.folder, 1, key, 1) or (0,)
        written.append(count)
    assert written[:-1] == [2**power for power in range(1, len(written))]
    assert utterances <= written[-1] < 2 * utterances
    assert str(errors[-1]) == f"CUDA out of memory, although {written[-1]} parts were asked for before"


def test_where_each_part_is_one_utterance_the_training_fails_as_before(rank_1: TrainingRun) -> None:
    rank_1.parts = (64,)
    assert isinstance(fail(rank_1), GradientMemoryError)
    assert not list(rank_1.folder.glob("needed-parts-*"))


def test_what_cannot_be_written_down_is_an_error_of_its_own(rank_1: TrainingRun) -> None:
    (rank_1.folder / kept_parts.NEEDED.format(rank=1)).mkdir()
    with pytest.raises(UserError, match=r"needed-parts-1.json: cannot be written \(Is a directory\)"):
        fail(rank_1)


def _read_on_two(rank: int, folder: Path, key: str) -> tuple[int, ...]:
    return read_needed(folder / str(rank), key, current_context(), 3)


def test_all_ranks_take_the_most_that_any_of_them_sees(tmp_path: Path, worker_pair: WorkerPair) -> None:
    """Each has a folder of its own here, as on a file system that shows new files late."""
    write_needed(tmp_path / "0", 0, "key", (1, 2, 4))
    write_needed(tmp_path / "1", 0, "key", (1, 1, 1))
    write_needed(tmp_path / "1", 1, "key", (2, 1, 8))
    assert worker_pair.run(_read_on_two, tmp_path, "key") == [(2, 2, 8)] * 2
    assert worker_pair.run(_read_on_two, tmp_path, "of another device") == [(1, 1, 1)] * 2


@pytest.mark.parametrize("content", ["", "[]", '{"key": [2, 2]}', '{"key": null}'])
def test_a_file_that_is_damaged_or_of_other_buckets_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / kept_parts.NEEDED.format(rank=0)).write_text(content)
    assert read_needed(tmp_path, "key", ALONE, 3) == (1, 1, 1)


def test_one_worker_writes_nothing_down(make_recipe, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_steps(monkeypatch, 2)
    loop.train(make_recipe(VALUES), run_folder, lambda metrics: None)
    assert not list(run_folder.glob("needed-parts-*"))
