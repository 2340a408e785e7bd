"""Points decode to recipes and recipes encode to points; the space refuses what no trial could run."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_source import RandomSource

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.baselines import make_baseline
from study.config.search_settings import SearchSettings
from study.search.quantity import OutsideError
from study.search.space import Point, Space

VALUES = {"loss.ctc_weight": 0.3, "optimiser.learning_rate": 3e-3, "training.epochs": 6}
TINY = with_values(named_recipe("tiny", "speech"), VALUES)  # four decoder layers
BASE = named_recipe("base", "speech")  # eight
FULL = {
    "ctc_weight": {"uniform": [0.0, 1.0]},
    "auxiliary": {"count": [0, 7], "final_weight": [0.05, 0.95]},
    "recipe": {
        "optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]},
        "training.epochs": {"integer": [3, 9]},
        "data.speeds": {"choice": [[1.0], [0.9, 1.0, 1.1]]},
        "encoder.dropout": {"choice": ["1e-1", 0.2]},
    },
}


class HypothesisSource:
    """Values drawn by hypothesis, the ends of every range among them."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return self.data.draw(st.sampled_from([low, high]) | st.floats(low, high), name)

    def integer(self, name: str, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high), name)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self.data.draw(st.sampled_from(list(values)), name)


def space(base: Recipe = TINY, **search: Any) -> Space:
    return Space(SearchSettings.model_validate(search), base)


@functools.cache
def full_space(final_weight: tuple[float, float] = (0.05, 0.95)) -> Space:
    return space(BASE, **(FULL | {"auxiliary": {"count": [0, 7], "final_weight": final_weight}}))


def refuse(base: Recipe = TINY, **search: Any) -> str:
    with pytest.raises(UserError) as error:
        space(base, **search)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_same(encoded: Point, expected: Point) -> None:
    assert encoded.keys() == expected.keys()
    for name, value in expected.items():
        assert encoded[name] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), name


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_suggested_point_decodes_to_a_valid_recipe_that_encodes_to_it(data: st.DataObject) -> None:
    full = full_space()
    point = full.suggest(HypothesisSource(data))
    recipe = full.decode(point)
    auxiliary = recipe.loss.auxiliary
    assert all(weight > 0 for weight in auxiliary.weights)
    assert sum(auxiliary.weights) + auxiliary.final_weight == pytest.approx(1, abs=1e-12)
    assert not auxiliary.placement or 0.05 - 1e-9 <= auxiliary.final_weight <= 0.95 + 1e-9
    assert_same(full.encode(recipe), point)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_recipe_inside_the_space_encodes_to_a_point_that_decodes_to_it(data: st.DataObject) -> None:
    placement = sorted(data.draw(st.sets(st.integers(1, 7), max_size=7)))
    parts = data.draw(st.lists(st.floats(0.2, 1.0), min_size=len(placement) + 1, max_size=len(placement) + 1))
    weights = [part / sum(parts) * 0.95 for part in parts[:-1]]
    values = {
        "loss.ctc_weight": data.draw(st.floats(0, 1)),
        "loss.auxiliary.placement": placement,
        "loss.auxiliary.weights": weights,
        "training.epochs": data.draw(st.integers(3, 9)),
    }
    full = full_space(final_weight=(0.01, 0.99))
    recipe = with_values(BASE, values | {"encoder.dropout": 0.2})
    decoded = full.decode(full.encode(recipe))
    assert decoded.loss.auxiliary.placement == tuple(placement)
    assert decoded.loss.auxiliary.weights == pytest.approx(weights, abs=1e-9)
    assert (decoded.loss.ctc_weight, decoded.training.epochs) == (recipe.loss.ctc_weight, recipe.training.epochs)


def test_only_active_parameters_are_in_a_point() -> None:
    auxiliary = space(auxiliary={"count": [0, 3]})
    names = {frozenset(auxiliary.suggest(RandomSource(seed))) for seed in range(50)}
    classifier = {"auxiliary.count", "auxiliary.final_weight"}
    assert names == {
        frozenset({"auxiliary.count"}),
        frozenset({*classifier, "auxiliary.placement.1"}),
        frozenset({*classifier, "auxiliary.placement.2", "auxiliary.share.2.1"}),
        frozenset({*classifier, "auxiliary.placement.3", "auxiliary.share.3.1", "auxiliary.share.3.2"}),
    }


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"loss.ctc_weight": 0.7}, r"ctc_weight 0.7 is outside \[0.1, 0.6\]"),
        ({"loss.auxiliary.placement": [3]}, "auxiliary.placement 3 is on a layer that auxiliary.layers leaves out"),
        ({"loss.auxiliary.weights": [0.05]}, r"final_weight 0.95 is outside \[0.3, 0.9\]"),
        (
            {"loss.auxiliary.placement": [1, 2], "loss.auxiliary.weights": [0.2, 0.2]},
            r"auxiliary.count 2 is outside \[0, 1\]",
        ),
        ({"optimiser.learning_rate": 0.5}, "optimiser.learning_rate is 0.5, but 0.003 in this study's base recipe"),
    ],
)
def test_a_recipe_outside_the_space_has_no_point_and_a_reason(values: dict[str, Any], reason: str) -> None:
    narrow = space(ctc_weight={"uniform": [0.1, 0.6]}, auxiliary={"count": [0, 1], "layers": [1, 2]})
    inside = with_values(TINY, {"loss.auxiliary.placement": [2], "loss.auxiliary.weights": [0.5]})
    classifier = {"auxiliary.count": 1, "auxiliary.placement.1": "2", "auxiliary.final_weight": 0.5}
    assert_same(narrow.encode(inside), {"ctc_weight": 0.3} | classifier)
    outside = with_values(inside, values)
    with pytest.raises(OutsideError, match=f"^{reason}$"):
        narrow.encode(outside)
    assert narrow.encode_or_none(outside) is None


def test_a_recipe_of_another_name_has_the_same_point() -> None:
    searched = space(ctc_weight={"uniform": [0.1, 0.6]})
    assert searched.encode(with_values(TINY, {"name": "other"})) == {"ctc_weight": 0.3}


def test_both_default_baselines_are_points_of_the_usual_space() -> None:
    usual = space(BASE, ctc_weight={"uniform": [0.1, 0.6]}, auxiliary={"count": [0, 2]})
    assert usual.encode(make_baseline("ed", BASE)) == {"ctc_weight": 0.3, "auxiliary.count": 0}
    paper = {"auxiliary.count": 1, "auxiliary.placement.1": "6", "auxiliary.final_weight": 0.6}
    assert_same(usual.encode(make_baseline("decred-paper", BASE)), {"ctc_weight": 0.3} | paper)


def test_values_for_tables_are_rounded_and_none_where_there_is_no_classifier() -> None:
    full = full_space()
    loss = {"loss.auxiliary.placement": [2, 5], "loss.auxiliary.weights": [0.2, 0.004], "loss.ctc_weight": 0.123456}
    assert full.describe_recipe(with_values(BASE, loss)) == {
        "ctc_weight": 0.1235,
        "optimiser.learning_rate": 0.001,
        "training.epochs": BASE.training.epochs,
        "data.speeds": "0.9,1.0,1.1",
        "encoder.dropout": 0.1,
        "auxiliary.placement": "2,5",
        "auxiliary.weights": "0.20,0.004",
        "final_weight": 0.796,
    }
    none = full.describe_recipe(make_baseline("ed", BASE))
    assert (none["auxiliary.placement"], none["auxiliary.weights"], none["final_weight"]) == ("none", "none", 1.0)


def test_every_placement_of_a_size_can_be_suggested() -> None:
    pairs = space(BASE, auxiliary={"count": [2, 2], "layers": [1, 3, 5, 7]})
    placements = {pairs.suggest(RandomSource(seed))["auxiliary.placement.2"] for seed in range(200)}
    assert placements == {f"{a},{b}" for a, b in itertools.combinations([1, 3, 5, 7], 2)}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"auxiliary": {"layers": [1, 4]}},
            "search.auxiliary.layers names layer 4, but the decoder has 4 layers and the last one carries the final "
            "classifier; choose from 1 to 3",
        ),
        ({"auxiliary": {"layers": [0, 1]}}, "names layer 0"),
        ({"auxiliary": {"count": [0, 4]}}, "count is [0, 4], but only 3 decoder layers may carry an auxiliary"),
        (
            {"recipe": {"optimiser.learning_rat": {"uniform": [0.1, 0.2]}}},
            "search.recipe: optimiser.learning_rat is no key of the recipe; did you mean 'optimiser.learning_rate'?",
        ),
        ({"recipe": {"optimiser": {"choice": [1, 2]}}}, "search.recipe: optimiser is no key of the recipe"),
        ({"recipe": {"data.corpus": {"choice": ["a", "b"]}}}, "data.corpus cannot be searched"),
        (
            {"recipe": {"validation.utterances": {"choice": [50, 100]}}},
            "search.recipe: validation.utterances cannot be searched: trials are compared on the same utterances;",
        ),
        ({"ctc_weight": {"uniform": [0.5, 1.5]}}, "search.ctc_weight can be 1.5, but 'loss.ctc_weight' is 1.5; input"),
        ({"recipe": {"training.epochs": {"uniform": [1, 9]}}}, "input should be a valid integer"),
        ({"recipe": {"encoder.cgmlp_kernel": {"integer": [13, 15]}}}, "cgmlp_kernel is 14, but must be odd"),
        (
            {"recipe": {"training.precision": {"choice": ["fp32", "fp8"]}}},
            "search.recipe: training.precision can be 'fp8'",
        ),
        (
            {"recipe": {"decoder.width": {"choice": [128, 136]}, "decoder.heads": {"choice": [4, 8]}}},
            "search can meet decoder.width 136, decoder.heads 8, but decoder: decoder.width is 136 with 8 heads",
        ),
        (
            {"auxiliary": {"count": [0, 1]}, "recipe": {"decoder.layers": {"integer": [2, 4]}}},
            "search can meet decoder.layers 2, but loss.auxiliary.placement names layer 3",
        ),
    ],
)
def test_a_space_with_an_impossible_recipe_is_refused(search: dict[str, Any], message: str) -> None:
    assert message in refuse(**search)


def test_more_placements_than_a_sampler_can_learn_are_refused() -> None:
    deep = with_values(BASE, {"decoder.layers": 16})
    message = refuse(deep, auxiliary={"count": [0, 4]})
    assert "makes 1365 placements of 4 classifiers on 15 layers, but 500 is the most" in message
    assert "narrow search.auxiliary.layers" in message
