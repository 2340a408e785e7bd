"""From where a run starts: all workers agree on it, and what cannot be trained is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_runs import ALONE

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training.ending import read_finished
from model.training.loop import train
from model.training.run import Resumption, find_resumption, start_or_resume
from model.weights.chosen import Chosen


def _find_as_an_outdated_second(
    rank: int, recipe: Recipe, other: Recipe, folder: Path
) -> tuple[Resumption, int, str, Chosen | None]:
    """What is resumed, its epoch, the error with another recipe, and what was chosen, where rank 1 sees little."""
    context = current_context()
    with pytest.MonkeyPatch.context() as monkeypatch:
        if rank == 1:
            monkeypatch.setattr(
                "model.weights.run_checkpoints.latest_checkpoint", lambda checkpoints: checkpoints / "epoch-0001"
            )
            monkeypatch.setattr("model.training.ending.read_chosen", lambda folder: None)
        found = find_resumption(recipe, folder, context)
        run = start_or_resume(recipe, folder, context, found)
        with pytest.raises(UserError) as refused:
            find_resumption(other, folder, context)
        return found, run.state.epoch, str(refused.value), read_finished(recipe, folder, context)


def test_all_workers_resume_what_the_first_one_sees(make_recipe, run_folder: Path, worker_pair) -> None:
    recipe = make_recipe({"data.batch_seconds": 24.0})
    train(recipe, run_folder, lambda _: None, score_tests=False)
    other = make_recipe({"training.seed": 5})
    first, second = worker_pair.run(_find_as_an_outdated_second, recipe, other, run_folder)
    assert first == second
    assert first[0].path == run_folder / "checkpoints" / "epoch-0002"
    assert (first[0].position.epoch, first[0].is_reported, first[1]) == (2, True, 2)
    assert "epoch-0002: was trained with recipe" in first[2]
    assert first[3] is not None
    assert first[3].recipe_hash == recipe.hash


def test_a_ctc_loss_that_is_summed_over_a_batch_is_not_trained(make_recipe, run_folder: Path) -> None:
    message = r"^loss.ctc_reduction is sum, which weighs CTC by the utterances of a batch and so depends on how many "
    message += r"devices share it; set it to mean to train \(published checkpoints can be scored with either\)$"
    with pytest.raises(UserError, match=message):
        start_or_resume(make_recipe({"loss.ctc_reduction": "sum"}), run_folder, ALONE)
    assert not run_folder.exists()
