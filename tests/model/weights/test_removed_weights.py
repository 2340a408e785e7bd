"""Weights of a training that has ended are removed wherever they are kept, and nobody takes what is left for whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from stored_runs import Place, save, trained

from model.errors import UserError
from model.weights.checkpoint_files import CHECKPOINTS
from model.weights.chosen import CHOSEN, REMOVED_FILE, Chosen, find_run_weights, link_chosen
from model.weights.chosen_weights import save_chosen
from model.weights.ended_run import remove_weights
from model.weights.run_store import end_training

CHOICE = Chosen("best", (2,), 2, 20, "hash")


def train_and_choose(place: Place) -> None:
    save(place, 1, 2)
    save_chosen(place.folder, trained(2)[0].state_dict(), CHOICE)


def test_all_weights_are_removed_from_the_folder_or_the_store_and_small_files_stay(place: Place) -> None:
    train_and_choose(place)
    (place.folder / "recipe.yaml").write_text("{}\n")
    remove_weights(place.folder, "its weights were removed, 2 of its class were better")
    assert place.names(CHECKPOINTS) == []
    assert place.names(CHOSEN) == []
    assert (place.folder / "recipe.yaml").exists()
    with pytest.raises(UserError, match=r"its weights were removed, 2 of its class were better; train its recipe.yaml"):
        find_run_weights(place.folder)
    remove_weights(place.folder, "again")  # of a removal that broke off


def test_weights_that_another_run_shares_stay_where_they_are(place: Place, tmp_path: Path) -> None:
    train_and_choose(place)
    other = tmp_path / "other"
    other.mkdir()
    link_chosen(place.folder, other)
    remove_weights(other, "its weights were removed")
    assert (other / REMOVED_FILE).exists()
    assert place.names(CHOSEN)
    found = find_run_weights(place.folder)
    assert found is not None
    assert (found / "model.safetensors").is_file()
    end_training(other)
