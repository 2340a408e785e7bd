from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from model.errors import OutOfMemoryError
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.workers import Workers, current_workers
from model.strict import to_yaml
from model.training import loop
from model.training.loop import Run, fit, start, train, train_epoch
from model.training.memory_probe import cost, worst_part
from model.training.optimiser import train_step
from model.weights import checkpoint

ALONE = Workers(0, 1, torch.device("cpu"))
NO_DROPOUT = {"encoder.dropout": 0.0, "decoder.dropout": 0.0}
whole_forward = Recogniser.forward


def limit(monkeypatch: pytest.MonkeyPatch, frames: int, from_call: int = 0) -> list[tuple[int, ...]]:
    """From its `from_call`-th call the model lacks memory for more padded frames; the shapes that it was given."""
    shapes: list[tuple[int, ...]] = []

    def forward(self, features, *others):
        shapes.append(tuple(features.shape))
        if len(shapes) > from_call and features.shape[0] * features.shape[1] > frames:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB")
        return whole_forward(self, features, *others)

    monkeypatch.setattr(Recogniser, "forward", forward)
    return shapes


def worst_frames(run: Run, parts: int) -> int:
    """Padded frames of the part that the trial takes for the worst."""
    batches = [*run.training.plan(0), run.training.longest()]
    worst = worst_part(run.training, run.recipe, batches, run.workers, parts)
    return math.prod(run.training.share(worst.batch, 0, 1, parts, 0)[worst.index].features.shape[:2])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    latest = checkpoint.latest_checkpoint(folder / "checkpoints")
    assert latest is not None
    return load_file(latest / "model.safetensors") | load_file(latest / "optimiser.safetensors")


def test_training_that_fits_is_bit_for_bit_what_it_is_without_the_trial(make_recipe, tmp_path, monkeypatch) -> None:
    recipe = make_recipe({"encoder.dropout": 0.1, "training.epochs": 1})
    shapes = limit(monkeypatch, 10**9)
    train(recipe, tmp_path / "tried", lambda _: None)
    monkeypatch.setattr(loop, "fit", lambda run: None)
    train(recipe, tmp_path / "plain", lambda _: None)
    assert len(shapes) % 2 == 1, "one forward pass more than without"
    ours, theirs = weights(tmp_path / "tried"), weights(tmp_path / "plain")
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_trial_leaves_nothing_behind(make_recipe, run_folder: Path, monkeypatch) -> None:
    run = start(make_recipe({"encoder.dropout": 0.1}), run_folder, ALONE)
    run.model.eval()
    limit(monkeypatch, worst_frames(run, 1) - 1)  # one try fails, the next one goes through
    before = torch.get_rng_state()
    fit(run)
    assert run.accumulate == 2
    assert torch.equal(torch.get_rng_state(), before)
    assert not run.model.training
    assert all(one.grad is None for one in run.model.parameters())
    assert not run.optimiser.state


def test_the_worst_part_is_the_largest_of_the_epoch_and_of_the_longest_utterances(make_recipe, run_folder) -> None:
    run = start(make_recipe(), run_folder, ALONE)
    batches = [*run.training.plan(0), run.training.longest()]
    sizes = []
    for batch in batches:
        for part in run.training.share(batch, 0, 1, 2, 0):
            sizes.append(cost(run.recipe, len(part.ids), part.features.shape[1], part.labels.shape[1]))
    worst = worst_part(run.training, run.recipe, batches, ALONE, 2)
    assert worst.cost == max(sizes) > min(sizes)
    lengths = sorted((run.training.utterances.length(cut.id) for cut in run.training.cuts), reverse=True)
    longest = [run.training.utterances.length(one) for one in run.training.longest()]
    assert longest == lengths[: len(longest)]
    assert len(longest) * longest[0] <= 100 * run.recipe.data.batch_seconds < (len(longest) + 1) * (longest[0] + 3)


def test_a_batch_that_does_not_fit_is_split_and_the_split_is_said_and_reported(
    make_recipe, run_folder, monkeypatch, caplog
) -> None:
    recipe = make_recipe({"training.epochs": 1})
    frames = worst_frames(start(recipe, run_folder, ALONE), 4)
    shapes = limit(monkeypatch, frames)
    reports: list[dict[str, float]] = []
    with caplog.at_level(logging.WARNING, "model"):
        train(recipe, run_folder, reports.append)
    assert [one["train/accumulate"] for one in reports] == [4.0]
    assert max(a * b for a, b, _ in shapes[3:]) <= frames, "what fitted in the trial fits in training"
    said = [one.message for one in caplog.records if "does not fit" in one.message]
    assert len(said) == 1
    assert "does not fit in memory: each worker's share is split in 4 parts instead of 1" in said[0]


def test_a_run_that_goes_on_tries_its_own_machine(make_recipe, run_folder: Path, monkeypatch) -> None:
    recipe = make_recipe()
    reports: list[dict[str, float]] = []
    train(recipe, run_folder, lambda one: bool(reports.append(one)))
    limit(monkeypatch, worst_frames(start(recipe, run_folder, ALONE), 2))
    train(recipe, run_folder, reports.append)
    assert reports[0]["train/accumulate"] == 1.0 < reports[1]["train/accumulate"]


def test_where_no_utterance_fits_the_error_says_what_was_tried_and_what_to_lower(
    make_recipe, run_folder, monkeypatch
) -> None:
    limit(monkeypatch, 1)
    words = r"^out of memory in trying the worst batch on cpu: not even 1 utterance x \d+ frames fit, its share in "
    words += r"\d+ parts of one \(CUDA out of memory\); lower data.longest_seconds, now 30, or the model's sizes$"
    with pytest.raises(OutOfMemoryError, match=words):
        train(make_recipe(), run_folder, lambda _: None)
    assert not (run_folder / "checkpoints").exists()


def test_what_is_wrong_beside_memory_is_left_to_training(make_recipe, run_folder: Path, monkeypatch) -> None:
    def broken(self, *others):
        raise RuntimeError("the planted error")

    run = start(make_recipe(), run_folder, ALONE)
    monkeypatch.setattr(Recogniser, "forward", broken)
    fit(run)
    assert run.accumulate == 1
    with pytest.raises(RuntimeError, match="the planted error"):
        train_epoch(run)


def test_memory_that_fails_in_training_or_scoring_is_an_out_of_memory_error(make_recipe, tmp_path, monkeypatch) -> None:
    limit(monkeypatch, 1, from_call=3)
    words = r"^out of memory at epoch 1, step 3, in 1 part of up to \d+ utterances x \d+ frames "
    words += r"\(CUDA out of memory\); lower data.batch_seconds or the model's sizes, or raise optimiser.accumulate$"
    with pytest.raises(OutOfMemoryError, match=words):
        train(make_recipe(), tmp_path / "training", lambda _: None)
    assert (tmp_path / "training" / "broken-batch-0.json").exists()
    monkeypatch.undo()

    def encode(self, *others):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Recogniser, "encode", encode)
    words = r"^out of memory in decoding \d+ utterances x \d+ frames, beam 1 \(.*can't allocate memory\); lower deco"
    with pytest.raises(OutOfMemoryError, match=words):
        train(make_recipe({"training.epochs": 1}), tmp_path / "scoring", lambda _: None)


def gradients(run: Run, batch: list[str], parts: int) -> torch.Tensor:
    """What the optimiser is given for a batch, all parameters in one."""
    seen: list[torch.Tensor] = []
    parameters = list(run.model.parameters())

    def step() -> None:
        seen.append(torch.cat([one.grad.flatten().double() for one in parameters if one.grad is not None]))

    def zero_grad(set_to_none: bool) -> None:
        for one in parameters:
            one.grad = None

    stub = SimpleNamespace(param_groups=[], step=step, zero_grad=zero_grad)
    share = run.training.share(batch, run.workers.rank, run.workers.world, parts, 0)
    train_step(run.parallel, share, stub, 0.0, math.inf, "fp32").check()  # type: ignore[arg-type]
    return seen[0]


def _split_on_two(rank: int, world: int, recipe: Recipe, place: str) -> None:
    """Only worker 1 lacks memory. Each keeps its parts a step and the gradients of a step in as many."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=world)
    run = start(recipe, Path(place) / "run", current_workers())
    monkeypatch = pytest.MonkeyPatch()
    if rank == 1:
        limit(monkeypatch, worst_frames(run, 1) // 4)
    fit(run)
    monkeypatch.undo()
    batch = max(run.training.plan(0), key=len)
    torch.save({"parts": run.accumulate, "gradients": gradients(run, batch, run.accumulate)}, f"{place}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_step_in_parts_has_the_gradients_of_the_whole_on_one_worker_and_on_two(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(NO_DROPOUT | {"data.batch_seconds": 20.0})
    run = start(recipe, tmp_path / "one", ALONE)
    batch = max(run.training.plan(0), key=len)
    whole = gradients(run, batch, 1)
    multiprocessing.spawn(_split_on_two, (2, recipe, str(tmp_path)), nprocs=2)
    two = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert two[0]["parts"] == two[1]["parts"] > 1, "all workers split alike when one lacks memory"
    for split in (gradients(run, batch, 2), gradients(run, batch, 5), two[0]["gradients"], two[1]["gradients"]):
        assert float((split - whole).norm() / whole.norm()) < 1e-6


LARGE = {"encoder.width": 64, "encoder.feed_forward": 2048, "encoder.layers": 6, "data.batch_seconds": 60.0}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
def test_a_batch_that_truly_does_not_fit_the_address_space_is_split(make_recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe(LARGE | {"training.epochs": 1})))
    command = [sys.executable, "-c", _IN_LITTLE_ROOM, str(tmp_path), "250"]
    environment = os.environ | {"PYTHONPATH": str(Path(loop.__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 1
    assert "does not fit in memory" in done.stderr
    assert "DefaultCPUAllocator" in done.stderr


_IN_LITTLE_ROOM = """
import resource, sys
from pathlib import Path
import torch
from model.training import memory_probe as fitting, loop
from model.runtime.memory import is_memory_failure
from model.recipe.files import read_recipe

def fit(run, fit=loop.fit):
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + int(sys.argv[2]) * 2**20, resource.RLIM_INFINITY))
    fit(run)

def said(error):
    print(error, file=sys.stderr)
    return is_memory_failure(error)

torch.set_num_threads(1)
loop.fit, fitting.is_memory_failure, place = fit, said, Path(sys.argv[1])
loop.train(read_recipe(place / "recipe.yaml"), place / "run", lambda one: print(one["train/accumulate"]))
"""
