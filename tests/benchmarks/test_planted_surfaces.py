"""How far each sampler's chosen configuration is above the optimum of planted surfaces."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
from ordered_code import find_regret, make_gp, make_mixture, make_tpe
from planted_search import search_planted
from planted_surfaces import SHAPES, make_surface

TRIALS, SEEDS = 40, range(50)
TITLE = f"regret in WER after {TRIALS} trials, median and upper quartile of {len(SEEDS)} seeds"
COLUMNS = {"random": ("random", "none"), "tpe": ("tpe", "none"), "tpe, two classes": ("tpe", "decred against ed")}
ORDERED = {"tpe, ordered": make_tpe, "GP, ordered": make_gp, "both in turns": make_mixture}


@pytest.mark.speed
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_samplers(shape: str, noise: float, add_row: Callable[..., None]) -> None:
    regrets: dict[str, list[float]] = {}
    for column, (sampler, question) in COLUMNS.items():
        searches = [
            search_planted(make_surface(shape, seed), seed, TRIALS, noise, question=question, sampler=sampler)
            for seed in SEEDS
        ]
        regrets[column] = [search.regret for search in searches]
    for column, make_sampler in ORDERED.items():
        regrets[column] = [find_regret(make_surface(shape, seed), seed, TRIALS, noise, make_sampler) for seed in SEEDS]
    medians = {column: statistics.median(values) for column, values in regrets.items()}
    cells = [
        f"{medians[column]:.2f} ({statistics.quantiles(values, n=4)[2]:.2f})" for column, values in regrets.items()
    ]
    add_row(TITLE, ("surface", "noise", *regrets), (shape, str(noise), *cells))
    assert medians["tpe"] <= medians["random"] + 0.05
