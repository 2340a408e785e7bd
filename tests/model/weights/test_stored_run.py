"""What is done against stores that keep less than they confirmed, and processes that end in the middle of an upload."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import WorkerPair
from safetensors.torch import load_file
from stored_runs import Place, position, save, trained

from model.recipe.recipe import Recipe
from model.training.loop import train
from model.weights.checkpoint_files import CHECKPOINTS
from model.weights.chosen import CHOSEN, Chosen, find_run_weights
from model.weights.chosen_weights import save_chosen
from model.weights.object_store import ObjectStore, StoreError
from model.weights.run_checkpoints import find_run_checkpoint, save_run_checkpoint
from model.weights.run_store import WeightsAt, begin_training, end_training, write_weights_at
from model.weights.stored_folders import MARKER

CHOICE = Chosen("best", (2,), 3, 30, "hash", 4.5, {"dev/wer": 20.0})


class KilledError(BaseException):
    """Stands for the end of the process."""


def test_wherever_an_upload_breaks_off_the_checkpoint_before_it_is_found_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stored = f"file://{tmp_path}/store"  # quicker than a server, and the order of actions is the same
    plain = {name: getattr(ObjectStore, name) for name in ("upload", "write", "remove", "copy")}
    actions = 0
    for broken in range(100):
        folder, done = tmp_path / f"run-{broken}", 0
        place = Place(folder, f"{stored}/{broken}", lambda: None)
        write_weights_at(folder, WeightsAt(f"{stored}/{broken}"))

        def act(store: ObjectStore, *arguments: object, name: str, last: int = broken) -> object:
            nonlocal done
            done += 1
            if done > last:
                raise KilledError
            return plain[name](store, *arguments)

        begin_training(folder)
        save(place, 1, 2)
        for name in plain:
            monkeypatch.setattr(ObjectStore, name, lambda *arguments, name=name: act(*arguments, name=name))
        try:
            save(place, 3)
        except KilledError:
            pass
        finally:
            for name, method in plain.items():
                monkeypatch.setattr(ObjectStore, name, method)
            end_training(folder)
        begin_training(folder)
        path, _ = find_run_checkpoint(folder)
        assert path is not None
        expected = trained(int(path.name[-1]))[0].weight
        assert path.name in ("epoch-0002", "epoch-0003")
        assert torch.equal(load_file(path / "model.safetensors")["weight"], expected)
        end_training(folder)
        actions = done
        if done <= broken:
            break
    assert actions == broken >= 5, "three files, a marker, and what is removed"


def test_content_that_a_store_has_changed_is_not_trained_on(stored: str, tmp_path: Path) -> None:
    write_weights_at(tmp_path, WeightsAt(stored))
    place = Place(tmp_path, stored, lambda: (end_training(tmp_path), begin_training(tmp_path)))
    begin_training(tmp_path)
    save(place, 1, 2)
    name = f"{CHECKPOINTS}/epoch-0002/model.safetensors"
    content = bytearray(place.read(name))
    content[-1] ^= 1
    place.replace(name, bytes(content))
    place.move()
    path, _ = find_run_checkpoint(tmp_path)
    assert path is not None
    assert path.name == "epoch-0001"
    end_training(tmp_path)


def test_chosen_weights_that_are_gone_from_the_store_are_named(stored: str, tmp_path: Path) -> None:
    write_weights_at(tmp_path, WeightsAt(stored))
    save_chosen(tmp_path, trained(7)[0].state_dict(), CHOICE)
    end_training(tmp_path)
    ObjectStore(stored).remove([f"{CHOSEN}/{MARKER}"])
    with pytest.raises(StoreError, match=rf"{stored}/chosen: is not there, .* restore it, or train again"):
        find_run_weights(tmp_path)
    end_training(tmp_path)


def test_the_copies_that_a_killed_process_left_are_removed_by_the_next_one(stored: str, tmp_path: Path) -> None:
    left = tmp_path / f"decred-weights-{os.getuid()}" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"0")
    left.with_name(f"{left.name}.lock").touch()
    write_weights_at(tmp_path / "run", WeightsAt(stored))
    begin_training(tmp_path / "run")
    assert not left.exists()
    end_training(tmp_path / "run")


def test_a_full_disk_for_copies_is_named_and_the_checkpoint_before_is_found(
    stored: str, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    write_weights_at(folder, WeightsAt(stored))
    begin_training(folder)
    save(Place(folder, stored, lambda: None), 1)
    end_training(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    begin_training(folder)
    (small_disk / "other").write_bytes(b"0" * 230_000)
    model = torch.nn.Linear(100, 100)
    with pytest.raises(StoreError, match=rf"the disk of {small_disk}/.* has no room for copies .* set TMPDIR"):
        save_run_checkpoint(folder, model, torch.optim.AdamW(model.parameters()), position(2))
    (small_disk / "other").unlink()
    path, _ = find_run_checkpoint(folder)
    assert path is not None
    assert path.name == "epoch-0001"
    end_training(folder)


def _train_on_own_machine(rank: int, recipe: Recipe, folder: Path, epochs: int) -> list[float]:
    """Training losses; the training stops after so many epochs. Each rank has a disk of its own."""
    losses: list[float] = []

    def report(metrics: dict[str, float]) -> bool:
        losses.append(metrics.get("train/loss", -1.0))
        return metrics["epoch"] < epochs

    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = folder.parent / f"machine-{rank}"
        machine.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(machine))
        train(recipe, folder, report, score_tests=False)
    return losses


@pytest.mark.slow
def test_workers_on_two_machines_continue_and_choose_by_what_the_store_has(
    make_recipe: Callable[..., Recipe], tmp_path: Path, worker_pair: WorkerPair
) -> None:
    values = {"training.choose": "average_last", "training.average": 2, "data.batch_seconds": 24.0}
    recipe, folder = make_recipe(values | {"training.epochs": 3}), tmp_path / "run"
    write_weights_at(folder, WeightsAt(f"file://{tmp_path}/store"))
    first, second = worker_pair.run(_train_on_own_machine, recipe, folder, 2)
    assert first == second
    assert len(first) == 2
    continued = worker_pair.run(_train_on_own_machine, recipe, folder, 4)
    whole = worker_pair.run(_train_on_own_machine, recipe, tmp_path / "undisturbed", 4)
    assert continued[0] == continued[1] == whole[0][2:]
    runs = (find_run_weights(path) for path in (folder, tmp_path / "undisturbed"))
    states = [load_file(path / "model.safetensors") for path in runs if path is not None]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert list(tmp_path.glob("machine-*/decred-weights-*/*")) == [], "copies are left"
    end_training(folder)
