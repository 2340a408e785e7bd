"""The best trial of a study, and the recipes of its trials."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.study_file import Objective
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

PARAMETERS = "parameters"  # a limit that is no metric
MOST_SHOWN = 5  # trials in a line


@dataclass(frozen=True)
class Ranking:
    """What complete trials are ranked by: figures by trial number, all of one metric.

    Where some were searched for their decoding further than others, `stage` is the last stage that all reached, and
    the figures are those of the best decoding until then.
    """

    metric: str
    figures: dict[int, float]
    stage: str | None = None

    @property
    def best(self) -> int | None:
        """The number of the trial with the lowest figure; of equals the first."""
        return min(self.figures, key=lambda number: (self.figures[number], number), default=None)


def rank_trials(records: Iterable[TrialRecord], objective: Objective) -> Ranking:
    """The figures of the complete trials: as they are decoded in the end, unless the objective says otherwise.

    A search for a decoding has more or less time from trial to trial; only figures of equally long searches are
    compared. Where not all trials have such a figure, validation's is used. Trainings that confirm a finalist, and
    trials that break a limit of the objective, have no rank.
    """
    searched_ones = [record for record in records if record.confirms is None]
    return rank_figures([record for record in searched_ones if not list_broken(record, objective)], objective)


def rank_figures(records: Iterable[TrialRecord], objective: Objective) -> Ranking:
    """The same of all the given trials."""
    metric: str = objective.metric
    usable = [record for record in records if record.state is TrialState.COMPLETE and _is_finite(record, metric)]
    validation = Ranking(metric, {record.number: record.metrics[metric] for record in usable})
    final = f"{metric}_final"
    if objective.ranking != "final" or not all(_is_finite(record, final) for record in usable):
        return validation
    searched = [tuple(stage["stage"] for stage in record.decoding_stages) for record in usable]
    if len(set(searched)) <= 1:
        return Ranking(final, {record.number: record.metrics[final] for record in usable})
    common = min(searched, key=len)
    reached = [record.decoding_stages[: len(common)] for record in usable]
    alike = all(stages[: len(common)] == common for stages in searched)
    if not common or not alike or any(metric not in stages[-1]["metrics"] for stages in reached):
        return validation
    figures = {record.number: stages[-1]["metrics"][metric] for record, stages in zip(usable, reached, strict=True)}
    return Ranking(final, figures, stage=common[-1])


def find_best(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The complete trial with the lowest objective, as `rank_trials` has it; of equals the first.

    Once finalists are confirmed, it is the one with the lowest mean over its new seeds, of those that are complete with
    the most of them: a mean over fewer, as of a former finalist, was more often lucky.
    """
    of_number = {record.number: record for record in records}
    best = _find_best_confirmed(of_number, objective)
    if best is None:
        best = rank_trials(of_number.values(), objective).best
    return None if best is None else of_number[best]


def _find_best_confirmed(records: Mapping[int, TrialRecord], objective: Objective) -> int | None:
    """None where nothing is confirmed, or some confirmation has not ended."""
    finalists = {number: record.confirms for number, record in records.items() if record.confirms is not None}
    if not all(records[number].state.final for number in finalists):
        return None
    figures: dict[int, list[float]] = {}
    ranking = rank_figures([records[number] for number in finalists], objective)
    for number, finalist in finalists.items():
        if finalist in records and number in ranking.figures:
            figures.setdefault(finalist, []).append(ranking.figures[number])
    most = max(map(len, figures.values()), default=0)
    full = [number for number, seeds in figures.items() if len(seeds) == most]
    return min(full, key=lambda number: (fmean(figures[number]), number), default=None)


def list_broken(record: TrialRecord, objective: Objective) -> dict[str, float]:
    """The figures of a trial that are above the objective's limits, by metric; one that it lacks, or that is not
    finite, is not known to be below its limit. What has too many parameters was not trained."""
    limits = {str(name): limit for name, limit in objective.limits.items() if name != PARAMETERS}
    figures = {name: record.metrics.get(name, math.nan) for name in limits}
    return {name: figure for name, figure in figures.items() if not figure <= limits[name]}


def describe_broken(records: Iterable[TrialRecord], objective: Objective) -> Iterator[str]:
    """A line on the complete trials that break a limit, and so are never the best one; none where there are none."""
    complete = [record for record in records if record.state is TrialState.COMPLETE and record.confirms is None]
    broken = {record.number: list_broken(record, objective) for record in complete}
    shown = [
        f"{number:04d} ({', '.join(f'{name} {figure:.4g}' for name, figure in figures.items())})"
        for number, figures in broken.items()
        if figures
    ]
    if shown:
        limits = ", ".join(f"{name} {limit:g}" for name, limit in objective.limits.items())
        more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
        yield f"above a limit of the objective ({limits}), and so never best: {', '.join(shown[:MOST_SHOWN])}{more}"


def _is_finite(record: TrialRecord, metric: str) -> bool:
    return math.isfinite(record.metrics.get(metric, math.nan))


def choose_trial(ledger: Ledger, number: int | None = None) -> TrialRecord:
    """The trial of this number, or the best one; a UserError where there is none."""
    name, trials = ledger.study.name, ledger.trials
    if number is None:
        best = find_best(trials.values(), ledger.study.objective)
        if best is None:
            raise UserError(
                f"study '{name}' has no complete trial yet, so none is best; "
                "continue with `decred-study run`, or name a trial"
            )
        return best
    if number not in trials:
        numbers = f"0 to {max(trials)}" if trials else "none yet"
        raise UserError(f"study '{name}' has no trial {number}; its trials: {numbers}")
    return trials[number]


def export_recipe(ledger: Ledger, number: int | None = None) -> tuple[Recipe, int]:
    """The recipe of a trial, by default the best one, proved to be the one that was tried; and the trial's number.

    It is decoded as was found best for the trial.
    """
    record = choose_trial(ledger, number)
    recipe = ledger.read_recipe(record)
    if record.found_decoding is not None:
        recipe = with_values(recipe, {"decoding": record.found_decoding})
    return recipe, record.number
