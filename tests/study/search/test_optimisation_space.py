"""The study file that searches schedules, rates and layer drop: every key of theirs is a quantity of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from random_source import RandomSource

from model.errors import UserError
from study.config.search_settings import SearchSettings
from study.config.study_file import make_base_recipe, read_study
from study.search.space import Space

STUDY = read_study(Path(__file__).parents[3] / "search_spaces" / "optimisation.yaml")
BASE = make_base_recipe(STUDY)


def test_points_of_the_space_are_recipes_and_recipes_are_points_again() -> None:
    space = Space(STUDY.search, BASE)
    recipes = []
    for seed in range(40):
        point = space.suggest(RandomSource(seed))
        recipes.append(space.decode(point))
        assert space.encode(recipes[-1]) == point
    assert len({recipe.hash for recipe in recipes}) == 40
    for name in ("encoder", "decoder", "classifiers", "ctc"):
        assert len({getattr(recipe.optimiser.rates, name) for recipe in recipes}) == 40
    assert {recipe.optimiser.decay for recipe in recipes} == {"linear", "cosine", "noam", "plateau"}
    assert {recipe.optimiser.rates.patterns for recipe in recipes} == {(), (("encoder.subsampling.*", 0.3),)}
    assert {recipe.loss.schedule.ctc_weight for recipe in recipes} == {None, 0.1, 0.3}
    assert max(recipe.encoder.layer_drop for recipe in recipes) > 0.1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"optimiser.decay": {"choice": ["linear", "noam"]}},
            "optimiser.decay can be 'noam', but optimiser: optimiser.decay is noam, which follows the steps of the",
        ),
        (
            {"optimiser.rates.encoder": {"uniform": [0.0, 1.0]}},
            "can be 0.0, but optimiser.rates.encoder: is 0, but must",
        ),
        ({"optimiser.rates.encodr": {"uniform": [0.1, 1.0]}}, "is no key of the recipe; did you mean 'optimiser.rates"),
        (
            {"loss.schedule.stop": {"uniform": [0.1, 1.0]}},
            "loss.schedule.stop can be 0.1, but loss.schedule: start is 0.2 and stop is 0.1, but the change has to",
        ),
    ],
)
def test_a_space_with_values_that_no_trial_could_run_is_refused_before_the_start(
    recipe: dict[str, Any], message: str
) -> None:
    base = BASE.model_copy(update={"optimiser": BASE.optimiser.model_copy(update={"warmup_steps": None})})
    with pytest.raises(UserError, match=message):
        Space(SearchSettings.model_validate({"recipe": recipe}), base)
