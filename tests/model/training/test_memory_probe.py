from __future__ import annotations

import logging
import math
import re
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from processes import run_in_new_process
from training_runs import ALONE, assert_same_weights

from model.data.epoch_plan import Rows
from model.errors import OutOfMemoryError
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.runtime.memory import hold_back_memory
from model.training import loop, memory_probe
from model.training.loop import choose_accumulation, train, train_epoch
from model.training.memory_probe import Parts, activation_cost, find_largest_part
from model.training.optimiser import train_step
from model.training.run import TrainingRun, start_or_resume

NO_DROPOUT = {"encoder.dropout": 0.0, "decoder.dropout": 0.0}
whole_forward = Recogniser.forward


def limit(monkeypatch: pytest.MonkeyPatch, frames: int, from_call: int = 0) -> list[tuple[int, ...]]:
    """Let the model fail to allocate more padded frames from its `from_call`-th call on; the shapes it was given."""
    shapes: list[tuple[int, ...]] = []

    def forward(self, features, *others):
        shapes.append(tuple(features.shape))
        if len(shapes) > from_call and features.shape[0] * features.shape[1] > frames:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB")
        return whole_forward(self, features, *others)

    monkeypatch.setattr(Recogniser, "forward", forward)
    return shapes


def all_batches(run: TrainingRun) -> list[Rows]:
    return [*run.training_set.plan_pass(0), run.training_set.longest_batch()]


def count_largest_frames(run: TrainingRun, parts: int) -> int:
    """Padded frames of the part that the probe takes for the largest."""
    largest = find_largest_part(run.training_set, run.recipe, all_batches(run), run.context, (parts,) * len(run.parts))
    share = run.training_set.load_share(largest.batch, 0, 1, parts, "0/0")
    return math.prod(share[largest.index].features.shape[:2])


def test_training_that_fits_is_bit_for_bit_what_it_is_without_the_probe(make_recipe, tmp_path, monkeypatch) -> None:
    recipe = make_recipe({"encoder.dropout": 0.1, "training.epochs": 1})
    shapes = limit(monkeypatch, 10**9)
    train(recipe, tmp_path / "probed", lambda _: None)
    monkeypatch.setattr(loop, "choose_accumulation", lambda *_: None)
    train(recipe, tmp_path / "plain", lambda _: None)
    assert len(shapes) % 2 == 1, "one forward pass more than without"
    assert_same_weights(tmp_path / "probed", tmp_path / "plain")


def test_the_probe_leaves_nothing_behind(make_recipe, run_folder: Path, monkeypatch) -> None:
    run = start_or_resume(make_recipe({"encoder.dropout": 0.1}), run_folder, ALONE)
    run.model.eval()
    limit(monkeypatch, count_largest_frames(run, 1) - 1)  # one try fails, the next one goes through
    before = torch.get_rng_state()
    choose_accumulation(run)
    assert max(run.parts) == 2
    assert torch.equal(torch.get_rng_state(), before)
    assert not run.model.training
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert not run.optimiser.state


@pytest.mark.parametrize(("choose", "tensors"), [("best", 2), ("ema", 3)])
def test_the_probe_holds_what_the_first_step_will_make_for_each_parameter(
    make_recipe, run_folder: Path, monkeypatch, choose: str, tensors: int
) -> None:
    run = start_or_resume(make_recipe({"training.choose": choose}), run_folder, ALONE)
    held: list[int] = []

    def allocate(*arguments, allocate=memory_probe._allocate_missing_moments) -> list[torch.Tensor]:
        made = allocate(*arguments)
        held.append(sum(tensor.numel() for tensor in made))
        return made

    monkeypatch.setattr(memory_probe, "_allocate_missing_moments", allocate)
    choose_accumulation(run)
    train_epoch(run)
    states = [state for state in run.optimiser.state.values() if state]
    made = sum(value.numel() for state in states for value in state.values() if value.dim() > 0)
    assert held == [made] == [tensors * sum(parameter.numel() for parameter in run.model.parameters())]


def test_the_probed_part_is_the_largest_of_the_epoch_and_of_the_longest_utterances(make_recipe, run_folder) -> None:
    run = start_or_resume(make_recipe(), run_folder, ALONE)
    costs = []
    for batch in all_batches(run):
        for part in run.training_set.load_share(batch, 0, 1, 2, "0/0"):
            costs.append(activation_cost(run.recipe, len(part.ids), part.features.shape[1], part.labels.shape[1]))
    largest = find_largest_part(run.training_set, run.recipe, all_batches(run), ALONE, (2,) * len(run.parts))
    assert largest.cost == max(costs) > min(costs)
    frames = run.training_set.utterances.frames
    lengths = sorted(frames[run.training_set.rows].tolist(), reverse=True)
    longest = frames[run.training_set.longest_batch()].tolist()
    assert longest == lengths[: len(longest)]
    assert len(longest) * longest[0] <= 100 * run.recipe.data.batch_seconds < (len(longest) + 1) * (longest[0] + 3)


def test_a_batch_that_does_not_fit_is_split_and_the_split_is_logged_and_reported(
    make_recipe, run_folder, monkeypatch, caplog
) -> None:
    recipe = make_recipe({"training.epochs": 1})
    frames = count_largest_frames(start_or_resume(recipe, run_folder, ALONE), 4)
    shapes = limit(monkeypatch, frames)
    reports: list[dict[str, float]] = []

    def choose_and_forget(*arguments, choose=loop.choose_accumulation) -> None:
        choose(*arguments)
        shapes.clear()

    monkeypatch.setattr(loop, "choose_accumulation", choose_and_forget)
    with caplog.at_level(logging.WARNING, "model"):
        train(recipe, run_folder, reports.append)
    assert [metrics.get("train/accumulate") for metrics in reports] == [4.0, None], "the second is the final report"
    assert max(rows * length for rows, length, _ in shapes) <= frames, "what fitted fits in training"
    logged = [record.message for record in caplog.records if "does not fit" in record.message]
    assert len(logged) == 1
    assert re.search(
        r"does not fit in memory: each worker's share is split in (2 to )?4 parts instead of 1$", logged[0]
    )


def test_each_bucket_is_split_into_the_fewest_parts_that_fit(make_recipe, run_folder: Path, monkeypatch) -> None:
    run = start_or_resume(make_recipe({"data.buckets": 3, "data.batch_seconds": 12.0}), run_folder, ALONE)
    frames, find_bucket = run.training_set.utterances.frames, run.training_set.find_bucket
    long = [batch for batch in all_batches(run) if find_bucket(batch) == 2]
    longest_of_others = max(int(frames[batch].max()) for batch in all_batches(run) if find_bucket(batch) < 2)
    assert longest_of_others < min(int(frames[batch].max()) for batch in long)

    def forward(self, features, *others):
        if features.shape[0] > 2 and features.shape[1] > longest_of_others:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole_forward(self, features, *others)

    monkeypatch.setattr(Recogniser, "forward", forward)
    choose_accumulation(run)
    assert run.parts[0] == run.parts[1] == run.parts[2], "on a CPU all alike"
    monkeypatch.setattr(memory_probe, "SPLIT_BY_BUCKET", ("cpu",))
    choose_accumulation(run)
    assert run.parts[:2] == (1, 1)
    assert run.parts[2] / 2 < max(map(len, long)) / 2 <= run.parts[2]


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_tenth_of_a_gpu_s_memory_is_held_back_until_the_block_is_left(kind: str, monkeypatch) -> None:
    set_to: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: set_to.append(share))
    with pytest.raises(KeyError), hold_back_memory(torch.device(kind), memory_probe.HELD_BACK):
        raise KeyError
    assert set_to == ([0.9, 1.0] if kind == "cuda" else [])


def test_a_resumed_run_is_probed_on_its_own_machine(make_recipe, run_folder: Path, monkeypatch) -> None:
    recipe = make_recipe()
    reports: list[dict[str, float]] = []
    train(recipe, run_folder, lambda metrics: bool(reports.append(metrics)))
    limit(monkeypatch, count_largest_frames(start_or_resume(recipe, run_folder, ALONE), 2))
    train(recipe, run_folder, reports.append)
    assert reports[0]["train/accumulate"] == 1.0 < reports[1]["train/accumulate"]


def test_where_no_utterance_fits_the_error_names_what_was_tried_and_what_to_lower(
    make_recipe, run_folder, monkeypatch
) -> None:
    limit(monkeypatch, 1)
    message = r"^out of memory in trying the largest batch on cpu: not even 1 utterance x \d+ frames fit, in \d+ parts "
    message += r"of one utterance \(CUDA out of memory\); lower data.longest_seconds, now 30, or the model's sizes$"
    with pytest.raises(OutOfMemoryError, match=message):
        train(make_recipe(), run_folder, lambda _: None)
    assert not (run_folder / "checkpoints").exists()


def test_other_faults_than_memory_are_left_to_training(make_recipe, run_folder: Path, monkeypatch) -> None:
    def broken(self, *others):
        raise RuntimeError("the planted error")

    run = start_or_resume(make_recipe(), run_folder, ALONE)
    monkeypatch.setattr(Recogniser, "forward", broken)
    choose_accumulation(run)
    assert set(run.parts) == {1}
    with pytest.raises(RuntimeError, match="the planted error"):
        train_epoch(run)


def test_memory_that_fails_in_training_or_scoring_is_an_out_of_memory_error(make_recipe, tmp_path, monkeypatch) -> None:
    limit(monkeypatch, 1, from_call=3)
    message = r"^out of memory at epoch 1, step 3, in \d+ parts of up to 1 utterance x \d+ frames "
    message += r"\(CUDA out of memory\); lower data.batch_seconds or the model's sizes, or raise optimiser.accumulate$"
    with pytest.raises(OutOfMemoryError, match=message):
        train(make_recipe(), tmp_path / "training", lambda _: None)
    assert (tmp_path / "training" / "broken-batch-0.json").exists()
    monkeypatch.undo()

    def encode(self, *others):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Recogniser, "encode_states", encode)
    message = r"^out of memory in decoding 1 utterances x \d+ frames, beam 1 \(.*can't allocate memory\); lower the dec"
    with pytest.raises(OutOfMemoryError, match=message):
        train(make_recipe({"training.epochs": 1}), tmp_path / "scoring", lambda _: None)


def compute_gradients(run: TrainingRun, batch: list[str], parts: int) -> torch.Tensor:
    """The gradients that the optimiser is given for a batch, of all parameters together."""
    seen: list[torch.Tensor] = []
    parameters = list(run.model.parameters())

    def step() -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        seen.append(torch.cat([gradient.flatten().double() for gradient in gradients]))

    def zero_grad(set_to_none: bool) -> None:
        for parameter in parameters:
            parameter.grad = None

    stub = SimpleNamespace(param_groups=[], step=step, zero_grad=zero_grad)
    share = run.training_set.load_share(batch, run.context.rank, run.context.world_size, parts, "0/0")
    result = train_step(run.parallel_model, share, stub, 0.0, math.inf, "fp32")  # type: ignore[arg-type]
    assert result.find_fault() is None
    return seen[0]


def _split_on_two(rank: int, recipe: Recipe, folder: Path) -> tuple[Parts, torch.Tensor]:
    """The parts of a step, where only rank 1 is short of memory, and the gradients of a step in as many."""
    run = start_or_resume(recipe, folder, current_context())
    with pytest.MonkeyPatch.context() as monkeypatch:
        if rank == 1:
            limit(monkeypatch, count_largest_frames(run, 1) // 4)
        choose_accumulation(run)
    batch = max(run.training_set.plan_pass(0), key=len)
    return run.parts, compute_gradients(run, batch, max(run.parts))


def test_a_step_in_parts_has_the_gradients_of_the_whole_on_one_worker_and_on_two(
    make_recipe, tmp_path: Path, worker_pair
) -> None:
    recipe = make_recipe(NO_DROPOUT | {"data.batch_seconds": 20.0})
    run = start_or_resume(recipe, tmp_path / "one", ALONE)
    batch = max(run.training_set.plan_pass(0), key=len)
    whole = compute_gradients(run, batch, 1)
    (parts, first), (other_parts, second) = worker_pair.run(_split_on_two, recipe, tmp_path / "two")
    assert parts == other_parts, "all workers split alike when one is short of memory"
    assert max(parts) > 1
    for split in (compute_gradients(run, batch, 2), compute_gradients(run, batch, 5), first, second):
        assert float((split - whole).norm() / whole.norm()) < 1e-6


LARGE = {"encoder.width": 64, "encoder.feed_forward": 2048, "encoder.layers": 6, "data.batch_seconds": 60.0}
MEBIBYTES = 250  # that the training may allocate beyond what it has when the probe starts


def _train_in_little_memory(recipe: Recipe, folder: Path) -> tuple[list[float], list[str]]:
    """The accumulation of each report, and the errors of the allocations that failed."""
    errors: list[str] = []

    def limit_and_choose(run: TrainingRun, parts_file: None, choose=loop.choose_accumulation) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEBIBYTES * 2**20, resource.RLIM_INFINITY))
        choose(run, parts_file)

    def log_failure(error: BaseException, is_failure=memory_probe.is_memory_failure) -> bool:
        errors.append(str(error))
        return is_failure(error)

    loop.choose_accumulation, memory_probe.is_memory_failure = limit_and_choose, log_failure
    reports: list[float] = []
    train(recipe, folder, lambda metrics: bool(reports.append(metrics["train/accumulate"])))
    return reports, errors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
def test_a_batch_that_truly_does_not_fit_the_address_space_is_split(make_recipe, run_folder: Path) -> None:
    recipe = make_recipe(LARGE | {"training.epochs": 1})
    (parts,), errors = run_in_new_process(_train_in_little_memory, recipe, run_folder)
    assert parts > 1
    assert any("DefaultCPUAllocator" in error for error in errors)
