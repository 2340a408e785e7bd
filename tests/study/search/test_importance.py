"""The importance of searched quantities, where it is known."""

from __future__ import annotations

import random

import pytest
from planted_surfaces import RandomSource

from model.recipe.files import named_recipe
from study.config.search_settings import SearchSettings
from study.search.importance import FEWEST, measure_importances
from study.search.quantity import Point
from study.search.space import Space

SPACE = Space(
    SearchSettings.model_validate(
        {
            "ctc_weight": {"uniform": [0.1, 0.6]},
            "auxiliary": {"count": [0, 2]},
            "recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
        }
    ),
    named_recipe("tiny", "c"),
)


def draw_points(count: int, seed: int = 0) -> list[Point]:
    draws = random.Random(seed)
    return [SPACE.suggest(RandomSource(draws)) for _ in range(count)]


def test_only_the_quantity_that_matters_has_a_signal() -> None:
    points, noise = draw_points(60), random.Random(1)
    figures = [10 + 20 * abs(float(point["ctc_weight"]) - 0.3) + noise.gauss(0, 0.5) for point in points]
    measured = measure_importances(points, figures, SPACE)
    assert [one.name for one in measured if one.has_signal] == ["ctc_weight"]
    assert measured[0].name == "ctc_weight"
    assert measured[0].low > measured[0].chance


def test_only_the_order_of_the_figures_counts() -> None:
    points = draw_points(20)
    figures = [float(point["ctc_weight"]) for point in points]
    assert measure_importances(points, figures, SPACE) == measure_importances(
        points, [10**one for one in figures], SPACE
    )


@pytest.mark.parametrize("case", ["few", "equal"])
def test_few_trials_and_equal_figures_have_no_importance(case: str) -> None:
    points = draw_points(FEWEST - 1 if case == "few" else FEWEST)
    figures = [float(number) if case == "few" else 7.0 for number in range(len(points))]
    assert measure_importances(points, figures, SPACE) == []
