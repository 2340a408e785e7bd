"""The ordered code of placements, which samplers are compared on: every subset of layers, each as likely."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from ordered_code import choose_layers, find_regret, make_tpe
from planted_surfaces import BASE, make_surface

LAYERS = range(1, BASE.decoder.layers)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_uniform_depths_are_uniform_subsets(count: int) -> None:
    generator, draws = random.Random(count), 6000
    found = Counter(choose_layers([generator.random() for _ in range(3)], count) for _ in range(draws))
    subsets = list(itertools.combinations(LAYERS, count))
    assert set(found) == set(subsets)
    assert all(found[subset] == pytest.approx(draws / len(subsets), rel=0.25) for subset in subsets)


def test_a_greater_depth_never_moves_the_deepest_layer_up() -> None:
    deepest = [max(choose_layers([depth / 50, 0.3, 0.3], 2)) for depth in range(51)]
    assert deepest == sorted(deepest)
    assert (deepest[0], deepest[-1]) == (2, LAYERS[-1])


def test_a_search_in_the_code_finds_a_planted_optimum_and_survives_points_that_cannot_be_trained() -> None:
    assert find_regret(make_surface("bowl", 0), 0, 30, 0.0, make_tpe) < 1.5
    assert find_regret(make_surface("cliff", 0), 0, 30, 0.0, make_tpe) < 3.0
