"""What a budget keeps for the end of a study: the trainings that confirm its finalists, and the best trial's test sets.

It keeps them for as many seeds as fit into half of each limit. With fewer than three seeds nothing is said of
configurations, so where not even these fit, nothing is kept and the search may use all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from study.config.budget import SECONDS_PER_HOUR, BudgetSettings
from study.config.study_file import StudyFile
from study.evidence.costs import Costs, Seconds, add
from study.ledger.budget_events import SEARCH, StudyPart
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials

FEWEST_SEEDS = 3
MOST_SHARE = 0.5  # of a limit
STOP_SECONDS = 10.0  # that running trials may take to leave their workers with a checkpoint
# Of a limit, the most that is left for it. Limits are looked at once a second, so 0.01 was too little for budgets of a
# minute: one on a busy machine was passed by 2 %.
MOST_MARGIN = 0.05


@dataclass(frozen=True)
class Reserve:
    """The trainings that are kept room for, `seeds` of each finalist, and the scoring after them."""

    seeds: int = 0
    trainings: tuple[Seconds, ...] = ()
    tests: Seconds = field(default_factory=Seconds)

    def at_mean(self) -> Reserve:
        """The same, without what it may take longer than on average."""
        return Reserve(self.seeds, tuple(Seconds(one.mean) for one in self.trainings), Seconds(self.tests.mean))

    def sum_up(self) -> Seconds:
        """The seconds of workers that all of it takes."""
        return add([*self.trainings, self.tests])

    def find_duration(self, concurrency: int) -> Seconds:
        """The time that all of it takes, so many trainings at the same time."""
        if not self.trainings:
            return self.tests
        longest = max(self.trainings, key=lambda one: one.mean)
        return add([*[longest] * math.ceil(len(self.trainings) / max(1, concurrency)), self.tests])


def keep_reserve(
    study: StudyFile, trials: Trials, costs: Costs, part: StudyPart, epochs: int, concurrency: int
) -> Reserve:
    """What is kept while a part of the study runs; `epochs` are those of the base recipe."""
    tests = costs.estimate_tests() if study.score_tests == "best" else Seconds()
    settings = study.confirmation
    if part != SEARCH or not study.classes or not settings.seeds or study.budget is None:
        return Reserve(tests=tests)
    candidates = (record for record in trials.values() if _may_become_finalist(record, study))
    longest = max((record.planned_epochs or 0 for record in candidates), default=0) or epochs
    of_seed = [costs.estimate_whole(name, longest, with_tests=True) for name in study.classes] * settings.finalists
    known = tuple(one for one in of_seed if one is not None)
    for seeds in range(settings.seeds, min(FEWEST_SEEDS, settings.seeds) - 1, -1):
        kept = Reserve(seeds, known * seeds, tests)
        if _fits_into_share(kept, study.budget, study, concurrency):
            return kept
    return Reserve(tests=tests)


def find_margin(study: StudyFile, budget: BudgetSettings, name: str, concurrency: int) -> float:
    """What is left of a limit for trials, so many at a time, to leave their workers at its end."""
    rate = budget.find_rate(name, study.workers) * (1 if name == "hours" else concurrency)
    return min(STOP_SECONDS * rate, MOST_MARGIN * budget.limits[name])


def has_room_for_tests(study: StudyFile, trials: Trials) -> bool:
    """Whether the scoring of one trial's test sets fits into what is left of the budget."""
    if study.budget is None:
        return True
    used, seconds = trials.spent.measure(study.budget, study.workers), Costs(trials).estimate_tests().mean
    for name, limit in study.budget.limits.items():
        rate = study.budget.find_rate(name, study.workers)
        if used[name] + seconds * rate > limit:
            return False
    return True


def _may_become_finalist(record: TrialRecord, study: StudyFile) -> bool:
    """Not what was stopped early or failed, however long it was to be: that would count until the study's end."""
    is_usable = record.state is TrialState.COMPLETE or not record.state.final
    return is_usable and record.confirms is None and record.recipe_class in study.classes


def _fits_into_share(kept: Reserve, budget: BudgetSettings, study: StudyFile, concurrency: int) -> bool:
    for name, limit in budget.limits.items():
        if name == "hours":
            needed = kept.find_duration(concurrency).mean / SECONDS_PER_HOUR
        else:
            needed = kept.sum_up().mean * budget.find_rate(name, study.workers)
        if needed > MOST_SHARE * limit:
            return False
    return True
