"""A training that is asked to stop writes a checkpoint after a step, and goes on from there to the same bits."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import WorkerPair, start_group, wait_for_death
from training_runs import (
    ALONE,
    StoppedError,
    assert_equal,
    assert_same_weights,
    plan_ids,
    poison,
    read_chosen_weights,
    without_clock,
)

from model.errors import TrainingInterruptedError
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.runtime.stop_request import StopRequest
from model.training import loop
from model.training.epoch_statistics import EpochStatistics
from model.training.run import start_or_resume
from model.weights import checkpoint, checkpoint_files
from model.weights.run_checkpoints import find_run_checkpoint

RANDOM: dict[str, Any] = {
    "training.epochs": 2,
    "training.choose": "ema",
    "encoder.dropout": 0.1,
    "decoder.dropout": 0.1,
    "augmentation.time_masks": 2,
    "augmentation.frequency_masks": 2,
    "data.batch_seconds": 5.0,
}


def train_and_stop(
    recipe: Recipe, folder: Path, at: tuple[int, int] | None, rank: int = 0
) -> tuple[list[dict[str, float]], str | None]:
    """Train until the request that comes before the step (epoch, step) has stopped it; reports, and why it stopped."""
    reports: list[dict[str, float]] = []
    stop, run_step = StopRequest(), loop.run_step

    def run_step_and_ask(run: loop.TrainingRun, step: loop.TrainingStep, progress: float) -> float:
        if (step.epoch, step.step) == at:
            stop.make()
        return run_step(run, step, progress)

    loop.run_step = run_step_and_ask
    try:
        loop.train(recipe, folder, reports.append, stop=stop)
    except TrainingInterruptedError as error:
        return reports, str(error)
    finally:
        loop.run_step = run_step
    return reports, None


def list_checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("first", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_stopped_after_any_step_goes_on_to_the_weights_and_figures_of_one_that_was_not(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    recipe = make_recipe(RANDOM | {"training.skips_share": 0.5})
    plan = plan_ids(start_or_resume(recipe, tmp_path / "plan", ALONE).training_set)
    assert len(plan) > 8
    poison(monkeypatch, plan[2][:1], epoch=1)
    whole, _ = train_and_stop(recipe, tmp_path / "whole", None)
    assert whole[0]["train/skipped"] == 1.0
    run = tmp_path / "parts"
    reports, why = train_and_stop(recipe, run, (1, first))
    assert reports == []
    assert why == f"after step {first + 1} of epoch 1"
    assert list_checkpoints(run) == [f"epoch-0000-step-{first + 1:08d}"]
    torch.rand(11)
    assert train_and_stop(recipe, run, (1, first + 2))[1] is not None, "it may be stopped within an epoch again"
    again, why = train_and_stop(recipe, run, (2, 2))
    assert why == "after step 3 of epoch 2"
    assert list_checkpoints(run) == ["epoch-0001", "epoch-0001-step-00000003"]
    reports = again + train_and_stop(recipe, run, None)[0]
    assert [without_clock(metrics) for metrics in reports] == [without_clock(metrics) for metrics in whole]
    assert_same_weights(run, tmp_path / "whole")
    assert_equal(read_chosen_weights(run), read_chosen_weights(tmp_path / "whole"))


def _train_and_stop_on_two(rank: int, recipe: Recipe, folder: Path, at: tuple[int, int]) -> list[Any]:
    """Whole; and stopped by a request to rank 1 alone, then to the end."""
    whole, _ = train_and_stop(recipe, folder / "whole", None)
    _, why = train_and_stop(recipe, folder / "parts", at if rank == 1 else None)
    reports, _ = train_and_stop(recipe, folder / "parts", None)
    return [whole, why, reports]


def test_two_workers_of_which_one_is_asked_stop_at_the_same_step_and_go_on_bit_for_bit(
    make_recipe, tmp_path: Path, worker_pair: WorkerPair
) -> None:
    recipe = make_recipe(RANDOM)
    (whole, why, reports), second = worker_pair.run(_train_and_stop_on_two, recipe, tmp_path, (1, 3))
    assert why == second[1] == "after step 4 of epoch 1"
    assert [without_clock(metrics) for metrics in reports] == [without_clock(metrics) for metrics in whole]
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")


def _train_and_die_while_writing(rank: int, recipe: Recipe, folder: Path) -> None:
    """Stop in epoch 2 by a request; rank 0 is killed when the weights are written and the moments are not."""
    save_file = checkpoint.save_file

    def save_or_die(content: dict[str, torch.Tensor], path: Path) -> None:
        if path.name == checkpoint_files.OPTIMISER and (folder / "checkpoints" / "epoch-0001").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        save_file(content, path)

    checkpoint.save_file = save_or_die
    train_and_stop(recipe, folder, (2, 2))


def test_a_kill_while_the_checkpoint_is_written_leaves_the_one_before_it_to_go_on_from(
    make_recipe, tmp_path: Path
) -> None:
    recipe, run = make_recipe(RANDOM), tmp_path / "killed"
    wait_for_death(start_group(tmp_path / "group", _train_and_die_while_writing, recipe, run))
    path, is_reported = find_run_checkpoint(run)
    assert path is not None
    assert (path.name, is_reported) == ("epoch-0001", True)
    assert next(name for name in list_checkpoints(run) if name != "epoch-0001").startswith(".draft-")
    train_and_stop(recipe, run, (2, 2))
    assert list_checkpoints(run) == ["epoch-0001", "epoch-0001-step-00000003"]


def test_a_torn_checkpoint_within_an_epoch_is_passed_over_and_the_epoch_before_it_counts_as_reported(
    make_recipe, tmp_path: Path
) -> None:
    recipe, run = make_recipe(RANDOM), tmp_path / "run"
    train_and_stop(recipe, run, (2, 2))
    within = run / "checkpoints" / "epoch-0001-step-00000003"
    (within / "model.safetensors").write_bytes((within / "model.safetensors").read_bytes()[:-1])
    path, is_reported = find_run_checkpoint(run)
    assert path is not None
    assert (path.name, is_reported) == ("epoch-0001", True)


def test_a_request_between_two_epochs_stops_before_another_step(make_recipe, tmp_path: Path) -> None:
    recipe, stop = make_recipe(RANDOM), StopRequest()
    with pytest.raises(TrainingInterruptedError, match=r"^after epoch 1$"):
        loop.train(recipe, tmp_path / "run", lambda _: stop.make(), stop=stop)
    assert list_checkpoints(tmp_path / "run") == ["epoch-0001"]
    with pytest.raises(TrainingInterruptedError, match=r"^before its first step$"):
        loop.train(recipe, tmp_path / "other", lambda _: None, stop=stop)


def test_a_request_at_the_last_step_stops_before_the_epoch_is_scored_and_it_is_reported_on_resume(
    make_recipe, tmp_path: Path
) -> None:
    recipe = make_recipe(RANDOM | {"training.epochs": 1})
    steps = len(plan_ids(start_or_resume(recipe, tmp_path / "plan", ALONE).training_set))
    reports, why = train_and_stop(recipe, tmp_path / "run", (1, steps))
    assert (reports, why) == ([], "after epoch 1")
    reports, _ = train_and_stop(recipe, tmp_path / "run", None)
    assert [metrics["epoch"] for metrics in reports] == [1, 1]


@given(st.lists(st.lists(st.integers(0, 1000), min_size=8, max_size=8), min_size=1, max_size=3), st.integers(1, 3))
def test_another_number_of_ranks_goes_on_from_the_same_sums(known: list[list[int]], ranks: int) -> None:
    part = checkpoint_files.EpochPart(3, 0, 0, 0.1, 0.2, [[float(value) for value in one] for one in known])
    totals = [0.0] * 5
    for rank in range(ranks):
        model: Any = SimpleNamespace(decoder=SimpleNamespace(placement=()))
        context = DistributedContext(rank, ranks, torch.device("cpu"))
        statistics = EpochStatistics(model, context)
        statistics.sums = torch.zeros(3, dtype=torch.float64)
        statistics.restore(part)
        own = [statistics.frames, statistics.tokens, *statistics.sums.tolist()]
        totals = [total + value for total, value in zip(totals, own, strict=True)]
        assert statistics.waited in [one[1] for one in known]
    assert totals == [sum(one[index] for one in known) for index in range(3, 8)]


def test_a_checkpoint_of_a_version_that_knew_no_parts_of_epochs_is_loaded(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(RANDOM)
    with pytest.raises(StoppedError):
        loop.train(recipe, tmp_path, stop_in_report)
    file = tmp_path / "checkpoints" / "epoch-0001" / "state.json"
    content = json.loads(file.read_text())
    assert content.pop("part") is None
    file.write_text(json.dumps(content))
    assert start_or_resume(recipe, tmp_path, ALONE).state.part is None


def stop_in_report(_: dict[str, float]) -> None:
    raise StoppedError
