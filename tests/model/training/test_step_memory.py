from __future__ import annotations

import ctypes
import gc
import logging
import re
import resource
import sys
from pathlib import Path

import pytest
import torch
from processes import run_in_new_process
from training_runs import ALONE, assert_equal

from model.data.batches import Batch
from model.network.kernels.depthwise import _Depthwise
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.memory import keep_freed_memory
from model.training import loop, step_memory
from model.training.loop import train_epoch
from model.training.optimiser import GradientMemoryError, train_step
from model.training.run import TrainingRun, start_or_resume
from model.training.step_memory import split_parts

VALUES = {"encoder.dropout": 0.1, "decoder.dropout": 0.1, "augmentation.time_masks": 1}
whole_forward = Recogniser.forward


def fail_in(monkeypatch: pytest.MonkeyPatch, fails, share: float = 1.0) -> list[torch.Size]:
    """Let the model's forward pass run out of memory, after a share of its utterances, where `fails` says so."""
    shapes: list[torch.Size] = []

    def forward(self, features, *others):
        shapes.append(features.shape)
        if fails(features):
            part = slice(int(share * len(features)))
            whole_forward(self, features[part], *(other[part] for other in others[:2]), *others[2:]).total.backward()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB")
        return whole_forward(self, features, *others)

    monkeypatch.setattr(Recogniser, "forward", forward)
    return shapes


def state_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


@pytest.mark.parametrize("parts", [2, 4])
def test_an_epoch_whose_steps_run_out_of_memory_is_that_of_an_epoch_that_was_split_from_the_start(
    make_recipe, tmp_path: Path, monkeypatch, caplog, parts: int
) -> None:
    recipe = make_recipe(VALUES | {"data.batch_seconds": 20.0, "data.buckets": 1})
    split = start_or_resume(recipe, tmp_path / "split", ALONE)
    split.parts = (parts,)
    train_epoch(split)
    most = -(-max(map(len, split.training_set.plan_pass(0))) // parts)
    run = start_or_resume(recipe, tmp_path / "whole", ALONE)
    shapes = fail_in(monkeypatch, lambda features: len(features) > most)
    with caplog.at_level(logging.WARNING, "model"):
        train_epoch(run)
    assert len([shape for shape in shapes if shape[0] > most]) == parts // 2, "later steps are split before they fail"
    assert run.parts == (parts,)
    assert run.state.losses["train/accumulate"] == parts
    assert_equal(state_of(run), state_of(split))
    logged = [record.message for record in caplog.records if "out of memory" in record.message]
    assert len(logged) == parts // 2
    assert re.fullmatch(
        r"out of memory at epoch 1, step 1 \(CUDA out of memory\): it is repeated, and batches of such lengths are "
        rf"split in {parts} parts from now on",
        logged[-1],
    )


def test_other_buckets_keep_their_parts(make_recipe, run_folder: Path, monkeypatch) -> None:
    run = start_or_resume(make_recipe({"data.buckets": 2}), run_folder, ALONE)
    frames, plan = run.training_set.utterances.frames, run.training_set.plan_pass(0)
    short = max(int(frames[batch].max()) for batch in plan if run.training_set.find_bucket(batch) == 0)
    fail_in(monkeypatch, lambda features: len(features) > 1 and features.shape[1] > short)
    train_epoch(run)
    assert run.parts[0] == 1 < run.parts[1]


def test_what_a_failed_step_has_added_to_the_gradients_is_dropped(make_recipe, run_folder: Path, monkeypatch) -> None:
    run = start_or_resume(make_recipe({"data.buckets": 1}), run_folder, ALONE)
    gradients: list[bool] = []

    def take(*arguments, take=loop.train_step):
        gradients.append(any(parameter.grad is not None for parameter in run.model.parameters()))
        return take(*arguments)

    fail_in(monkeypatch, lambda features: len(features) > 3)
    monkeypatch.setattr(loop, "train_step", take)
    train_epoch(run)
    assert len(gradients) > run.state.step
    assert not any(gradients)


def test_a_step_that_failed_in_its_backward_pass_holds_nothing_when_it_is_repeated(
    make_recipe, run_folder: Path, monkeypatch
) -> None:
    values = {"data.buckets": 1, "training.epoch_steps": 1, "encoder.layers": 4, "encoder.feed_forward": 512}
    run = start_or_resume(make_recipe(values), run_folder, ALONE)
    sizes: list[int] = []
    calls: list[int] = []

    def take(*arguments, take=loop.train_step):
        gc.collect()
        sizes.append(sum(one.numel() for one in gc.get_objects() if issubclass(type(one), torch.Tensor)))
        return take(*arguments)

    def backward(ctx, grad, backward=_Depthwise.backward):
        calls.append(len(sizes))
        if calls == [1] * 4:  # when half of the encoder's layers have their gradients
            raise torch.OutOfMemoryError("CUDA out of memory")
        return backward(ctx, grad)

    monkeypatch.setattr(_Depthwise, "backward", staticmethod(backward))
    monkeypatch.setattr(loop, "train_step", take)
    train_epoch(run)
    first, repeated = sizes
    assert repeated < 2 * first, "the parts of the batch, and nothing of the graph, which is thrice as large"


def test_a_single_utterance_that_does_not_fit_fails_with_one_worker_and_with_several(
    make_recipe, run_folder: Path, monkeypatch
) -> None:
    run = start_or_resume(make_recipe({"data.buckets": 1, "data.batch_seconds": 20.0}), run_folder, ALONE)
    batch = loop.PlannedBatch(0, run.training_set.plan_pass(0)[0])
    step = loop.TrainingStep(1, 1, 1, batch, run.training_set.load_share(batch.rows, 0, 1, 1, "0/0"))
    tries: list[int] = []

    def take():
        tries.append(len(step.parts))
        raise GradientMemoryError("CUDA out of memory")

    with pytest.raises(GradientMemoryError):
        step_memory.take_in_memory(run, step, take)
    assert tries == [1, 2, 4, len(batch.rows)]
    run.context = loop.DistributedContext(0, 2, torch.device("cpu"))
    with pytest.raises(GradientMemoryError):
        step_memory.take_in_memory(run, step, take)
    assert tries[-2:] == [len(batch.rows)] * 2, "one more try, and no more"


def test_memory_that_fails_when_the_step_is_taken_is_not_tried_again(make_recipe, run_folder, monkeypatch) -> None:
    run = start_or_resume(make_recipe(), run_folder, ALONE)

    def step() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run.optimiser, "step", step)
    (batch,) = run.training_set.load_share(run.training_set.plan_pass(0)[0], 0, 1, 1, "0/0")
    with pytest.raises(torch.OutOfMemoryError):
        train_step(run.model, [batch], run.optimiser, 1e-3, 1.0, "fp32")


@pytest.mark.parametrize("loaded", [1, 3])
def test_parts_are_split_into_those_that_would_have_been_loaded(make_recipe, run_folder: Path, loaded: int) -> None:
    run = start_or_resume(make_recipe(VALUES | {"data.buckets": 1, "data.batch_seconds": 20.0}), run_folder, ALONE)
    training_set = run.training_set

    def load(rows, count: int) -> list[Batch]:
        return training_set.load_share(rows, 0, 1, count, "0/0")

    for rows in training_set.plan_pass(0):
        for count in (loaded, 2 * loaded, 4 * loaded, 32 * loaded):
            ours, theirs = split_parts(load(rows, loaded), count), load(rows, count)
            assert [part.ids for part in ours] == [part.ids for part in theirs]
            for one, other in zip(ours, theirs, strict=True):
                assert torch.equal(one.features, other.features)
                assert torch.equal(one.lengths, other.lengths)
                assert torch.equal(one.labels, other.labels)
                assert one.counts == other.counts
                assert one.rows.tolist() == other.rows.tolist()


LARGE = {
    "encoder.dropout": 0.0,
    "decoder.dropout": 0.0,
    "encoder.width": 64,
    "encoder.feed_forward": 2048,
    "encoder.layers": 4,
    "data.batch_seconds": 60.0,
}
M_ARENA_MAX = -8  # of glibc's mallopt: the most heaps
SHARE = 0.8  # of the addresses that the step takes as a whole


def read_addresses(key: str) -> int:
    """Bytes of addresses that the process has (VmSize), or has had at most (VmPeak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _train_without_a_probe(recipe: Recipe, folder: Path, more: int | None) -> tuple[int, float, float]:
    """The addresses that an epoch of one step takes, at most `more` beyond those before it; its parts, and its loss."""
    # A thread of its own heap takes 64 MiB of addresses more, in one run and not in the other.
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    run = start_or_resume(recipe, folder, ALONE)
    keep_freed_memory(False)  # as where the probe has split batches: oneDNN maps pages of its own beside the heap
    before = read_addresses("VmSize")
    if more is not None:
        resource.setrlimit(resource.RLIMIT_AS, (before + more, resource.RLIM_INFINITY))
    train_epoch(run)
    return read_addresses("VmPeak") - before, run.state.losses["train/accumulate"], run.state.losses["train/loss"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
def test_a_step_that_truly_does_not_fit_the_address_space_is_split(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(LARGE | {"data.buckets": 1, "training.epoch_steps": 1})
    needed, whole, loss = run_in_new_process(_train_without_a_probe, recipe, tmp_path / "whole", None)
    assert whole == 1
    _, parts, loss_in_parts = run_in_new_process(
        _train_without_a_probe, recipe, tmp_path / "split", int(SHARE * needed)
    )
    assert parts > 1
    assert loss_in_parts == pytest.approx(loss, rel=1e-3)
