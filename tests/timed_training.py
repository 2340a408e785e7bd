"""A stand-in for training whose decoding takes longer the better a model is: by its CTC weight and its classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import stub_training

from model.recipe.recipe import Recipe

BEAM = 2.0  # times longer than greedy search


def train(recipe: Recipe, folder: Path, report: stub_training.Report, *arguments: Any, **named: Any) -> None:
    """As `stub_training.train`, with real-time factors."""
    factor = find_factor(recipe)

    def report_factors(metrics: dict[str, float]) -> bool | None:
        final = {"dev/rtf_final": BEAM * factor} if "finished" in metrics else {}
        return report(metrics | {"dev/rtf": factor} | final)

    stub_training.train(recipe, folder, report_factors, *arguments, **named)


def find_factor(recipe: Recipe) -> float:
    """Of validation's decoding."""
    return 0.1 * (1.0 - recipe.loss.ctc_weight) + 0.012 * len(recipe.loss.auxiliary.placement)
