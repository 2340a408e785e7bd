"""A stand-in for training whose decoding takes longer the better a model is: by its CTC weight and its classifiers."""

from __future__ import annotations

from pathlib import Path

import stub_training

from model.recipe.recipe import Recipe
from model.runtime.stop_request import StopRequest

BEAM = 2.0  # times longer than greedy search


def train(
    recipe: Recipe,
    folder: Path,
    report: stub_training.Report,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """As `stub_training.train`, with real-time factors."""
    factor = find_factor(recipe)

    def report_factors(metrics: dict[str, float]) -> bool | None:
        final = {"dev/rtf_final": BEAM * factor} if "finished" in metrics else {}
        return report(metrics | {"dev/rtf": factor} | final)

    stub_training.train(recipe, folder, report_factors, score_tests, parts_file, stop)


def find_factor(recipe: Recipe) -> float:
    """Of validation's decoding."""
    return 0.1 * (1.0 - recipe.loss.ctc_weight) + 0.012 * len(recipe.loss.auxiliary.placement)
