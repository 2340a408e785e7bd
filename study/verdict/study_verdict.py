"""What a study shows: its question's two classes, each by its finalist's trainings with common new seeds, on test sets.

Nothing of the search itself is judged: what it chose was lucky, and its figures stand beside those of the new seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from study.config.search_settings import SEED
from study.config.study_file import Objective
from study.ledger.best import rank_figures
from study.ledger.events import Finalist, FinalistsChosen
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.verdict.seed_effects import Judged, judge

# The share of studies of equal systems in which anything may be claimed, together 5 %.
LEVELS = {"wer": 0.04, "ilm_perplexity": 0.01}
DOMAINS = {"in_domain": "in domain", "out_of_domain": "out of domain"}


@dataclass(frozen=True)
class Confirmed:
    """A class's finalist: what it was chosen by, and the mean of the same figure over its new seeds.

    `trainings` are the complete trainings by seed.
    """

    finalist: Finalist
    selected: float
    replicated: float
    trainings: Mapping[int, TrialRecord]

    @property
    def luck(self) -> float:
        """By how much the figure at selection was better than with new seeds."""
        return self.replicated - self.selected


@dataclass(frozen=True)
class Verdict:
    """The first class against the second, over the seeds that both were trained with.

    `judged` has the effects by figure: `wer` and `ilm_perplexity`, those that the trainings' test sets have.
    """

    selection: FinalistsChosen
    first: Confirmed
    second: Confirmed
    seeds: tuple[int, ...]
    judged: Mapping[str, Judged]

    @property
    def classes(self) -> tuple[str, str]:
        return self.first.finalist.recipe_class, self.second.finalist.recipe_class


def make_verdict(trials: Trials) -> Verdict | None:
    """What the trials of a study show; None where its finalists are not chosen, or none of them was confirmed yet."""
    selection = trials.selection
    if selection is None:
        return None
    confirmed = _confirm(trials, selection)
    names = list(dict.fromkeys(finalist.recipe_class for finalist in selection.finalists))
    of_class = [[one for one in confirmed if one.finalist.recipe_class == name] for name in names]
    if len(names) < 2 or not all(of_class):
        return None
    first, second = (min(ones, key=lambda one: (one.replicated, one.finalist.number)) for ones in of_class)
    seeds = tuple(sorted(first.trainings.keys() & second.trainings.keys()))
    judged = {figure: _judge(first, second, seeds, figure) for figure in LEVELS} if seeds else {}
    return Verdict(selection, first, second, seeds, {name: one for name, one in judged.items() if one is not None})


def _confirm(trials: Trials, selection: FinalistsChosen) -> list[Confirmed]:
    """The finalists of which at least one new training is complete; the figures are of equally long searches."""
    numbers = [finalist.number for finalist in selection.finalists]
    confirming = [record for record in trials.values() if record.confirms in numbers]
    complete = [record for record in confirming if record.state is TrialState.COMPLETE]
    metric = selection.metric
    objective = Objective.model_validate(
        {"metric": metric.removesuffix("_final"), "ranking": "final" if metric.endswith("_final") else "validation"}
    )
    figures = rank_figures([*complete, *(trials[number] for number in numbers)], objective).figures
    found = []
    for finalist in selection.finalists:
        of_finalist = [record for record in complete if record.confirms == finalist.number and record.number in figures]
        if of_finalist:
            replicated = fmean(figures[record.number] for record in of_finalist)
            trainings = {int(record.values[SEED]): record for record in of_finalist}
            found.append(Confirmed(finalist, figures[finalist.number], replicated, trainings))
    return found


def _judge(first: Confirmed, second: Confirmed, seeds: tuple[int, ...], figure: str) -> Judged | None:
    """The effects on a figure of every test set and of the domains; None where no set has it in all trainings."""
    ours, theirs = ([read_figures(one.trainings[seed], figure) for seed in seeds] for one in (first, second))
    names = [name for name in ours[0] if all(name in figures for figures in (*ours, *theirs))]
    sets = [name for name in names if name not in DOMAINS.values()]
    if not sets:
        return None
    of_first, of_second = ([{name: one[name] for name in names} for one in figures] for figures in (ours, theirs))
    return judge(of_first, of_second, sets, LEVELS[figure])


def read_figures(record: TrialRecord, figure: str) -> dict[str, float]:
    """A figure of each test set, and its mean over the sets of a domain where there are several."""
    metrics = {name: value for name, value in record.final_metrics.items() if math.isfinite(value)}
    parts = {name.split("/")[1]: value for name, value in metrics.items() if _is_of_set(name, figure)}
    for domain, label in DOMAINS.items():
        mean = metrics.get(f"{domain}/{figure}")
        if mean is not None and all(not math.isclose(mean, value) for value in parts.values()):
            parts[label] = mean
    return parts


def _is_of_set(name: str, figure: str) -> bool:
    start, *rest = name.split("/")
    return start == "test" and len(rest) == 2 and rest[1] == figure
