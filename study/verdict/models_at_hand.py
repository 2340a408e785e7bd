"""What can be said with too few seeds: of the models themselves, pair by pair, and of no configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from model.errors import UserError
from study.verdict.comparison import Comparison, compare_systems
from study.verdict.study_verdict import Verdict


def describe_models(verdict: Verdict, find_folder: Callable[[int], Path]) -> list[str]:
    """A line for each common seed and test set; `find_folder` gives the folder of a trial."""
    lines = []
    for seed in verdict.seeds:
        first, second = (find_folder(one.trainings[seed].number) for one in (verdict.first, verdict.second))
        try:
            comparisons = compare_systems(first, second, any_decoding=True)  # each by what its search on dev found
        except UserError as error:
            lines.append(f"the two models of seed {seed} cannot be compared: {error}")
            continue
        lines += _describe(verdict, seed, comparisons)
    return lines


def _describe(verdict: Verdict, seed: int, comparisons: list[Comparison]) -> Iterator[str]:
    first, second = verdict.classes
    for one in comparisons:
        if one.set_name != "dev":
            low, high = one.interval
            yield (
                f"the two models of seed {seed} on {one.set_name}: {first} {one.first_wer:.2f} %, {second} "
                f"{one.second_wer:.2f} %, {one.difference:+.2f} points [{low:.2f}, {high:.2f}] over {one.blocks}, "
                f"matched pairs p {one.matched_pairs:.3f} ({one.holm:.3f} for all sets together)"
            )
