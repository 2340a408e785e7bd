"""A checkpoint is there whole or not at all, and while it is not, the one before it is used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import nn

from model.api import load_run
from model.errors import UserError
from model.runtime.distributed import DistributedContext
from model.training.loop import train
from model.training.run import start_or_resume
from model.weights import checkpoint, checkpoint_files
from model.weights.checkpoint import load_optimiser, load_weights, save_checkpoint
from model.weights.checkpoint_files import (
    TrainingPosition,
    is_reported,
    latest_checkpoint,
    load_position,
    mark_reported,
)

FILES = ("model.safetensors", "optimiser.safetensors", "state.json")


def position(epoch: int) -> TrainingPosition:
    return TrainingPosition(epoch, 10 * epoch, 0, 0, "hash", epoch, 0, losses={"train/loss": 1.5})


def trained(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model of 4 * width * width bytes, and moments of twice as many."""
    model = nn.Linear(width, width, bias=False)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, width)).sum().backward()
    optimiser.step()
    return model, optimiser


def tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Weights, then moments and steps."""
    states = [optimiser.state[parameter] for parameter in model.parameters()]
    return [*model.state_dict().values(), *(state[key] for state in states for key in sorted(state))]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_on_a_full_disk_the_previous_checkpoint_stays_whole_and_no_draft_is_left(small_disk: Path) -> None:
    model, optimiser = trained(110)  # 145 KiB a checkpoint: there is room for one
    first = save_checkpoint(small_disk, model, optimiser, position(1))
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    with pytest.raises((OSError, SafetensorError), match="No space left on device"):
        save_checkpoint(small_disk, *trained(110), position(2))
    assert names(small_disk) == ["epoch-0001"]
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    load_weights(first, model)
    load_optimiser(first, model, optimiser)


def test_room_for_two_checkpoints_is_enough_for_any_number_of_epochs(small_disk: Path) -> None:
    model, optimiser = trained(95)  # 109 KiB a checkpoint: there is room for two
    for epoch in range(1, 5):
        path = save_checkpoint(small_disk, model, optimiser, position(epoch))
    assert names(small_disk) == ["epoch-0003", "epoch-0004"]
    (path / "state.json").write_text("")
    save_checkpoint(small_disk, model, optimiser, position(4))
    assert names(small_disk) == ["epoch-0003", "epoch-0004"], "nor does a torn one take the room of a third"


def test_a_draft_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".draft-1").mkdir()
    (tmp_path / ".draft-1" / "model.safetensors").write_bytes(b"half")
    path = save_checkpoint(tmp_path, *trained(4), position(1))
    assert list(tmp_path.iterdir()) == [path]
    assert latest_checkpoint(tmp_path) == path


def test_epochs_are_ordered_by_number_beyond_four_digits(tmp_path: Path) -> None:
    for epoch in (9_999, 10_000):
        path = save_checkpoint(tmp_path, *trained(4), position(epoch))
    assert latest_checkpoint(tmp_path) == path
    assert names(tmp_path) == ["epoch-10000", "epoch-9999"]


def test_files_and_folders_are_synced_before_the_checkpoint_is_in_place_and_before_an_earlier_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimiser = trained(4)
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", model, optimiser, position(epoch))
    events: list[tuple[str, str]] = []
    replace, rmtree = os.replace, shutil.rmtree

    def recorded_sync(path: Path) -> None:
        events.append(("sync", str(path.relative_to(tmp_path))))

    def recorded_replace(source: Path, target: Path) -> None:
        events.append(("place", str(target.relative_to(tmp_path))))
        replace(source, target)

    def recorded_rmtree(path: Path, ignore_errors: bool) -> None:
        if path.exists():
            events.append(("remove", str(path.relative_to(tmp_path))))
        rmtree(path, ignore_errors)

    monkeypatch.setattr(checkpoint, "sync_file", recorded_sync)
    monkeypatch.setattr(checkpoint, "sync_folder", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    monkeypatch.setattr(shutil, "rmtree", recorded_rmtree)
    save_checkpoint(tmp_path / "checkpoints", model, optimiser, position(3))
    draft = f"checkpoints/.draft-{os.getpid()}"
    assert events == [
        ("remove", "checkpoints/epoch-0001"),  # the second was synced when it was written
        *(("sync", f"{draft}/{name}") for name in FILES),
        ("sync", draft),
        ("place", "checkpoints/epoch-0003"),
        ("sync", "checkpoints"),
    ]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[torch.Tensor]]:
    """A folder of checkpoints of epochs 1 and 2, and the tensors of the first."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model, optimiser = trained(8)
    first = [tensor.clone() for tensor in tensors(model, optimiser)]
    save_checkpoint(folder, model, optimiser, position(1))
    optimiser.step()
    save_checkpoint(folder, model, optimiser, position(2))
    return folder, first


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(FILES), share=st.floats(0.0, 1.0, exclude_max=True))
def test_when_any_file_of_the_newest_is_truncated_at_any_byte_the_one_before_is_loaded(
    two_checkpoints: tuple[Path, list[torch.Tensor]], name: str, share: float
) -> None:
    folder, first = two_checkpoints
    torn = folder / "epoch-0002" / name
    whole = torn.read_bytes()
    torn.write_bytes(whole[: int(share * len(whole))])
    try:
        latest = latest_checkpoint(folder)
    finally:
        torn.write_bytes(whole)
    assert latest == folder / "epoch-0001"
    model, optimiser = trained(8)
    load_weights(latest, model)
    load_optimiser(latest, model, optimiser)
    assert all(map(torch.equal, tensors(model, optimiser), first))
    assert TrainingPosition(**json.loads((latest / "state.json").read_text())) == position(1)
    assert latest_checkpoint(folder) == folder / "epoch-0002", "mended, it is the newest again"


@pytest.mark.parametrize("name", FILES)
def test_no_prefix_of_a_file_counts_as_whole_nor_does_a_missing_file(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, *trained(2), position(1))
    whole = (path / name).read_bytes()
    for length in range(len(whole)):
        (path / name).write_bytes(whole[:length])
        assert not checkpoint_files.is_whole(path), length
    (path / name).unlink()
    assert not checkpoint_files.is_whole(path)
    (path / name).write_bytes(whole)
    assert checkpoint_files.is_whole(path)


def test_a_torn_checkpoint_is_logged_is_not_reported_and_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for epoch in (1, 2):
        path = save_checkpoint(tmp_path, *trained(4), position(epoch))
        mark_reported(tmp_path, epoch)
    (path / "state.json").write_text("{")
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch-0001"
    assert f"{path}: this checkpoint is torn and is passed over" in caplog.text
    assert is_reported(tmp_path), "the first was"
    save_checkpoint(tmp_path, *trained(4), position(2))
    assert names(tmp_path) == ["epoch-0001", "epoch-0002"]
    assert latest_checkpoint(tmp_path) == path
    assert not is_reported(tmp_path), "the second is a new one"


def test_a_process_whose_run_another_one_has_continued_changes_nothing(tmp_path: Path) -> None:
    for epoch in (4, 5, 6):  # the successor's; the fifth was its frozen predecessor's last
        save_checkpoint(tmp_path, *trained(4), position(epoch))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    with pytest.raises(UserError, match="has epoch 6, but this process has trained epoch 4: another process"):
        save_checkpoint(tmp_path, *trained(4), position(4))
    mark_reported(tmp_path, 4)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before
    mark_reported(tmp_path, 5)
    assert not is_reported(tmp_path), "the report of another epoch is none of the newest"
    save_checkpoint(tmp_path, *trained(4), position(6))
    mark_reported(tmp_path, 6)
    assert is_reported(tmp_path)


def test_the_one_before_is_kept_while_the_newest_is_torn(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, *trained(4), position(epoch))
    (tmp_path / "epoch-0002" / "model.safetensors").write_bytes(b"")
    save_checkpoint(tmp_path, *trained(4), position(3))
    assert names(tmp_path) == ["epoch-0001", "epoch-0003"]


def test_a_run_whose_newest_checkpoint_is_torn_trains_that_epoch_again_to_the_same_weights(
    make_recipe, tmp_path: Path
) -> None:
    recipe, folder = make_recipe({"training.epochs": 2}), tmp_path / "run"
    train(recipe, folder, lambda metrics: metrics["epoch"] < 2)
    newest = folder / "checkpoints" / "epoch-0002"
    before = {file: (newest / file).read_bytes() for file in FILES}
    (newest / "optimiser.safetensors").write_bytes(before["optimiser.safetensors"][:-1])
    epochs: list[float] = []
    train(recipe, folder, lambda metrics: epochs.append(metrics["epoch"]))
    assert epochs == [2, 2], "the second is the final report"
    assert {file: (newest / file).read_bytes() for file in FILES[:2]} == {file: before[file] for file in FILES[:2]}


def test_a_run_without_a_whole_checkpoint_starts_again_and_cannot_be_scored(make_recipe, tmp_path: Path) -> None:
    recipe, folder = make_recipe({"training.epochs": 1}), tmp_path / "run"
    train(recipe, folder, lambda _: False)
    (folder / "checkpoints" / "epoch-0001" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="holds no checkpoint; give the folder of a training run"):
        load_run(folder)
    assert start_or_resume(recipe, folder, DistributedContext(0, 1, torch.device("cpu"))).state.epoch == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"recipe_hash": "other"},
            r"epoch-0001: was trained with recipe other, but this is [0-9a-f]{16}; give",
        ),
        ({"node": "a"}, r"state\.json: is not of this version \(.*'node'\); use the version that wrote it"),
    ],
)
def test_a_position_of_another_recipe_or_version_is_refused(make_recipe, tmp_path: Path, content, message: str) -> None:
    path = save_checkpoint(tmp_path, *trained(4), position(1))
    (path / "state.json").write_text(json.dumps(json.loads((path / "state.json").read_text()) | content))
    with pytest.raises(UserError, match=message):
        load_position(path, make_recipe())
