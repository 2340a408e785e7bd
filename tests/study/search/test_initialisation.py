"""What is taken of other weights can be searched as any key of the recipe."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from study.config.baselines import make_baseline
from study.config.search_settings import SearchSettings
from study.search.space import Space

TINY = named_recipe("tiny", "speech")
STARTED = with_values(TINY, {"init_from": "/runs/first"})
CHOICES: dict[str, list[Any]] = {
    "initialisation.take": [["*"], ["encoder.*", "ctc.*"], []],
    "initialisation.leave": [[], ["encoder.layers.[2-3].*"]],
    "initialisation.rename": [[], [["decoder.layers.5.*", "decoder.layers.3.*"]]],
    "initialisation.unfit": ["refuse", "leave"],
    "initialisation.vocabulary": ["by_id", "by_piece", "leave"],
}


def make_space(choices: dict[str, list[Any]], base: Any = STARTED) -> Space:
    recipe = {key: {"choice": values} for key, values in choices.items()}
    return Space(SearchSettings.model_validate({"recipe": recipe}), base)


def test_every_choice_decodes_to_a_recipe_with_a_hash_of_its_own_and_back() -> None:
    space = make_space(CHOICES)
    points = space.list_grid(2)
    assert len(points) == 3 * 2 * 2 * 2 * 3
    recipes = [space.decode(point) for point in points]
    assert len({recipe.hash for recipe in recipes}) == len(points)
    assert [space.encode(recipe) for recipe in recipes] == points
    dumped = [recipe.initialisation.model_dump(mode="json") for recipe in recipes]
    combined = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
    for values in combined:
        assert {key.removeprefix("initialisation."): value for key, value in values.items()} in dumped


def test_a_baseline_is_a_point_of_the_space_and_tables_show_the_patterns() -> None:
    space = make_space({key: CHOICES[key] for key in ("initialisation.take", "initialisation.unfit")})
    assert space.encode_or_none(make_baseline("ed", STARTED)) is not None
    parts = with_values(STARTED, {"initialisation.take": ["encoder.*", "ctc.*"]})
    assert space.describe_recipe(parts)["initialisation.take"] == "encoder.*,ctc.*"


def test_without_initial_weights_none_of_it_can_be_searched() -> None:
    message = (
        "search.recipe: initialisation.unfit can be 'leave', but initialisation.unfit is leave, but init_from names "
        "no weights; set init_from"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        make_space({"initialisation.unfit": ["refuse", "leave"]}, TINY)
