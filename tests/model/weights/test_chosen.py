"""Which epochs' weights are kept while a run trains, and what is left of it when it has ended."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model.errors import UserError
from model.recipe.training import TrainingConfig
from model.weights import chosen as chosen_weights
from model.weights.chosen import (
    Candidate,
    Chosen,
    choose_candidates,
    find_run_weights,
    keep_candidate,
    link_chosen,
    list_candidates,
    read_chosen,
    read_tokens_per_second,
)
from model.weights.chosen_weights import average_candidates, save_chosen
from model.weights.ended_run import keep_last_weights

RULES = st.sampled_from(["best", "last", "average_best", "average_last", "ema"])
WERS = st.lists(st.sampled_from([10.0, 20.0, 30.0, 40.0]), min_size=1, max_size=6)
CHOSEN = Chosen("best", (2,), 3, 30, "hash", 4.5, {"dev/wer": 20.0})


def keep(folder: Path, epoch: int, wer: float, rule: TrainingConfig) -> None:
    """Keep an epoch whose only weight is its number."""
    weights = folder / f"weights-{epoch}"
    save_file({"w": torch.tensor([float(epoch), wer])}, weights)
    keep_candidate(folder, weights, Candidate(epoch, {"dev/wer": wer}), rule)
    weights.unlink()


def expected_epochs(wers: list[float], rule: TrainingConfig) -> list[int]:
    """The epochs (from 1) that the rule chooses, best or newest first."""
    epochs = range(1, len(wers) + 1)
    if rule.choose == "ema":
        return []
    by_wer = sorted(epochs, key=lambda epoch: wers[epoch - 1])  # of equals the earlier one
    order = by_wer if rule.choose.endswith("best") else list(reversed(epochs))
    return order[: rule.average if rule.choose.startswith("average") else 1]


@settings(max_examples=60, deadline=None)
@given(RULES, st.integers(1, 4), WERS)
def test_after_each_epoch_exactly_those_are_on_disk_that_would_be_chosen(
    choose: str, average: int, wers: list[float]
) -> None:
    rule = TrainingConfig(choose=choose, average=average)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for epoch, wer in enumerate(wers, start=1):
            keep(folder, epoch, wer, rule)
            expected = expected_epochs(wers[:epoch], rule)
            assert [candidate.epoch for candidate in list_candidates(folder)] == sorted(expected)
            found = sorted((folder / "candidates").iterdir()) if (folder / "candidates").exists() else []
            assert [path.name for path in found] == [f"epoch-{epoch:04d}" for epoch in sorted(expected)]
            chosen = choose_candidates(folder, rule)
            assert [(candidate.epoch, candidate.wer) for candidate in chosen] == [
                (one, wers[one - 1]) for one in expected
            ]
        if expected:
            mean = average_candidates(folder, chosen)["w"]
            assert mean[0] == pytest.approx(sum(expected) / len(expected))


def test_a_mean_is_that_of_the_tensors_in_double_precision(tmp_path: Path) -> None:
    rule = TrainingConfig(choose="average_last", average=3)
    states = [torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    for epoch, state in enumerate(states, start=1):
        save_file({"w": state}, tmp_path / "weights")
        keep_candidate(tmp_path, tmp_path / "weights", Candidate(epoch, {"dev/wer": 1.0}), rule)
        (tmp_path / "weights").unlink()
    mean = average_candidates(tmp_path, choose_candidates(tmp_path, rule))["w"]
    assert torch.equal(mean, ((states[3].double() + states[2].double() + states[1].double()) / 3).float())
    assert torch.equal(average_candidates(tmp_path, choose_candidates(tmp_path, rule)[:1])["w"], states[3])


@pytest.mark.parametrize("choose", ["average_best", "average_last"])
def test_a_run_that_was_taken_back_drops_the_epochs_that_it_trains_again(tmp_path: Path, choose: str) -> None:
    rule = TrainingConfig(choose=choose, average=5)
    for epoch in range(1, 5):
        keep(tmp_path, epoch, 40.0 - epoch, rule)
    keep(tmp_path, 2, 50.0, rule)
    assert [(candidate.epoch, candidate.wer) for candidate in list_candidates(tmp_path)] == [(1, 39.0), (2, 50.0)]
    assert load_file(tmp_path / "candidates" / "epoch-0002" / "model.safetensors")["w"].tolist() == [2.0, 50.0]


def test_an_epoch_that_is_worse_when_trained_again_is_no_candidate_any_more(tmp_path: Path) -> None:
    rule = TrainingConfig(choose="best")
    keep(tmp_path, 1, 20.0, rule)
    keep(tmp_path, 1, 30.0, rule)
    assert [candidate.wer for candidate in list_candidates(tmp_path)] == [30.0]


def test_a_crash_leaves_the_candidates_and_the_choice_as_they_were(tmp_path: Path, monkeypatch) -> None:
    rule = TrainingConfig(choose="average_last", average=2)
    keep(tmp_path, 1, 20.0, rule)
    save_chosen(tmp_path, {"w": torch.ones(1)}, CHOSEN)

    def crash(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(chosen_weights, "sync_file", crash)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path, 2, 10.0, rule)
    with pytest.raises(OSError, match="No space left"):
        save_chosen(tmp_path, {"w": torch.zeros(1)}, CHOSEN)
    assert [path.name for path in (tmp_path / "candidates").iterdir()] == ["epoch-0001"]
    assert load_file(tmp_path / "chosen" / "model.safetensors")["w"].item() == 1.0
    assert not list(tmp_path.glob(".draft*"))


def test_what_was_chosen_is_read_back_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_chosen(tmp_path) is None
    save_chosen(tmp_path, {"w": torch.ones(1)}, CHOSEN)
    assert read_chosen(tmp_path) == CHOSEN
    for content in ("{", "[]", json.dumps({"epochs": [1], "node": "a"})):
        (tmp_path / "chosen" / "chosen.json").write_text(content)
        with pytest.raises(UserError, match=r"chosen/chosen.json: is damaged \(.*\); restore it, or train again"):
            read_chosen(tmp_path)


def test_another_run_can_be_given_the_choice_and_keeps_it_when_the_first_is_gone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save_chosen(one, {"w": torch.ones(1)}, CHOSEN)
    link_chosen(one, other)
    files = [folder / "chosen" / "model.safetensors" for folder in (one, other)]
    assert os.path.samefile(*files), "they take the room of one"
    shutil.rmtree(one)
    assert read_chosen(other) == CHOSEN
    assert load_file(files[1])["w"].item() == 1.0


def write_checkpoint(folder: Path, epoch: int) -> Path:
    """As much of a checkpoint as counts as whole."""
    path = folder / "checkpoints" / f"epoch-{epoch:04d}"
    path.mkdir(parents=True)
    for name in ("model", "optimiser"):
        save_file({"w": torch.tensor([float(epoch)])}, path / f"{name}.safetensors")
    position = {"epoch": epoch, "step": 10 * epoch, "recipe_hash": "hash", "tokens_per_second": 3.5}
    (path / "state.json").write_text(json.dumps(position))
    return path


def test_a_run_has_the_weights_of_its_last_checkpoint_until_it_has_chosen(tmp_path: Path) -> None:
    assert find_run_weights(tmp_path) is None
    path = write_checkpoint(tmp_path, 2)
    assert find_run_weights(tmp_path) == path
    assert read_tokens_per_second(tmp_path, path) == 3.5
    save_chosen(tmp_path, {"w": torch.ones(1)}, CHOSEN)
    assert find_run_weights(tmp_path) == tmp_path / "chosen"
    assert read_tokens_per_second(tmp_path, tmp_path / "chosen") == 4.5


def test_of_an_ended_run_the_choice_stays_and_moments_and_candidates_go(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    keep(tmp_path, 2, 10.0, TrainingConfig())
    save_chosen(tmp_path, {"w": torch.ones(1)}, CHOSEN)
    keep_last_weights(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["chosen"]
    assert read_chosen(tmp_path) == CHOSEN
    keep_last_weights(tmp_path)
    assert read_chosen(tmp_path) == CHOSEN


def test_of_a_run_that_was_stopped_the_last_weights_stay(tmp_path: Path) -> None:
    for epoch in (1, 2):
        write_checkpoint(tmp_path, epoch)
        keep(tmp_path, epoch, 10.0 * epoch, TrainingConfig())
    keep_last_weights(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["chosen"]
    assert read_chosen(tmp_path) == Chosen("stopped", (2,), 2, 20, "hash", 3.5)
    assert load_file(tmp_path / "chosen" / "model.safetensors")["w"].item() == 2.0


def test_a_run_that_trains_again_after_it_was_stopped_has_its_new_weights(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 3)
    keep_last_weights(tmp_path)
    path = write_checkpoint(tmp_path, 1)
    assert find_run_weights(tmp_path) == path
    keep_last_weights(tmp_path)
    assert find_run_weights(tmp_path) == tmp_path / "chosen"
    assert load_file(tmp_path / "chosen" / "model.safetensors")["w"].item() == 1.0


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".draft-chosen-1").mkdir()
    save_chosen(tmp_path, {"w": torch.ones(1)}, CHOSEN)
    assert [path.name for path in tmp_path.iterdir()] == ["chosen"]


def test_a_folder_without_weights_is_left_empty(tmp_path: Path) -> None:
    keep_last_weights(tmp_path)
    assert list(tmp_path.iterdir()) == []
