"""The grid has every combination of values from each range once, with active parameters alone."""

from __future__ import annotations

from typing import Any

import pytest

from model.errors import UserError
from model.recipe.files import named_recipe
from model.recipe.recipe import Recipe
from study.config.search_settings import SearchSettings
from study.search.space import Space

TINY, BASE = named_recipe("tiny", "speech"), named_recipe("base", "speech")


def space(base: Recipe = TINY, **search: Any) -> Space:
    return Space(SearchSettings.model_validate(search), base)


def test_the_grid_has_every_combination_once() -> None:
    search = {"ctc_weight": {"uniform": [0.0, 1.0]}, "auxiliary": {"count": [0, 2], "final_weight": [0.2, 0.8]}}
    searched = space(**search)
    grid = searched.list_grid(3)
    # per CTC weight: nothing; 3 layers x 3 final weights; 3 pairs x 3 final weights x 3 shares
    assert len(grid) == 3 * (1 + 3 * 3 + 3 * 3 * 3)
    assert len({tuple(sorted(point.items())) for point in grid}) == len(grid)
    assert {point["ctc_weight"] for point in grid} == {0.0, 0.5, 1.0}
    assert {point.get("auxiliary.share.2.1") for point in grid} == {None, 0.25, 0.5, 0.75}
    assert len({searched.decode(point).hash for point in grid}) == len(grid)


def test_the_grid_takes_logarithmic_steps_and_whole_numbers() -> None:
    learning_rate = {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    assert [point["optimiser.learning_rate"] for point in space(recipe=learning_rate).list_grid(3)] == pytest.approx(
        [1e-4, 1e-3, 1e-2]
    )
    epochs = {"training.epochs": {"integer": [2, 10]}}
    assert [point["training.epochs"] for point in space(recipe=epochs).list_grid(3)] == [2, 6, 10]


def test_a_grid_with_too_many_points_is_refused() -> None:
    with pytest.raises(UserError, match=r"search.grid_points is 50, which makes more than 10000 grid points; lower it"):
        space(BASE, auxiliary={"count": [0, 7], "final_weight": [0.05, 0.95]}).list_grid(50)
