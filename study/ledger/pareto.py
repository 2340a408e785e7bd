"""The Pareto front of a study of two objectives: the complete trials that no other one dominates.

A trial dominates another one where it is not higher in either figure, and lower in one. Trials with equal figures
dominate each other in neither way, so all of them are on the front, or none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.config.study_file import Objective
from study.ledger.best import Ranking, rank_trials
from study.ledger.records import TrialRecord

DECODED = ("/wer", "/cer", "/rtf")  # ends of metrics that depend on how a trial is decoded


@dataclass(frozen=True)
class FrontTrial:
    """A trial's figures of both objectives."""

    number: int
    first: float
    second: float
    on_front: bool


@dataclass(frozen=True)
class Front:
    """The trials that were compared, by their first figure. `metrics` are the names of both figures, as they were
    compared; `stage` is of the first one, as in `Ranking`."""

    metrics: tuple[str, str]
    compared: tuple[FrontTrial, ...]
    lacking: tuple[int, ...]  # complete trials without the second figure
    stage: str | None = None

    @property
    def trials(self) -> tuple[FrontTrial, ...]:
        """Those on the front."""
        return tuple(one for one in self.compared if one.on_front)


def make_front(records: Iterable[TrialRecord], objective: Objective) -> Front | None:
    """The front of the search's complete trials that break no limit; None for a study of one objective.

    The first figure is what trials are ranked by, the second one is of the same decoding.
    """
    if objective.second is None:
        return None
    searched = {record.number: record for record in records}
    ranking, second = _choose_figures(searched.values(), objective, objective.second)
    pairs = {
        number: (figure, searched[number].metrics[second])
        for number, figure in ranking.figures.items()
        if math.isfinite(searched[number].metrics.get(second, math.nan))
    }
    front = find_front(list(pairs.values()))
    compared = [FrontTrial(number, *pair, pair in front) for number, pair in pairs.items()]
    return Front(
        metrics=(ranking.metric, second),
        compared=tuple(sorted(compared, key=lambda one: (one.first, one.second, one.number))),
        lacking=tuple(sorted(ranking.figures.keys() - pairs.keys())),
        stage=ranking.stage,
    )


def _choose_figures(records: Iterable[TrialRecord], objective: Objective, second: str) -> tuple[Ranking, str]:
    """What the trials are ranked by, and the name of the second figure that goes with it."""
    records = list(records)
    ranking, final = rank_trials(records, objective), f"{second}_final"
    if ranking.stage is not None and second.endswith(DECODED):
        # Final figures of some trials are of a longer search than the rank is.
        ranking = rank_trials(records, objective.model_copy(update={"ranking": "validation"}))
    ranked = [record for record in records if record.number in ranking.figures]
    has_final = bool(ranked) and all(math.isfinite(record.metrics.get(final, math.nan)) for record in ranked)
    return ranking, final if has_final and ranking.metric.endswith("_final") else second


def find_front(pairs: Sequence[tuple[float, float]]) -> set[tuple[float, float]]:
    """The pairs that no other is below or equal to in both, and below in one."""
    front: set[tuple[float, float]] = set()
    lowest = math.inf
    for x, y in sorted(set(pairs)):
        if y < lowest:
            front.add((x, y))
            lowest = y
    return front
