"""What of a study's budget is used, and what its trials will still take, in one line or in parts of one."""

from __future__ import annotations

import time
from collections.abc import Iterator

from study.config.budget import NAMES, SECONDS_PER_HOUR, BudgetSettings, describe_use
from study.config.study_file import StudyFile
from study.evidence.costs import Costs
from study.ledger.budget_events import CONFIRMATION, SEARCH
from study.ledger.open_parts import is_closed
from study.ledger.records import TrialState
from study.ledger.trials import Trials


def measure_use(study: StudyFile, trials: Trials, now: float | None = None) -> dict[str, float]:
    """What was used of each limit, by its name in the study file, until `now` or the last event; empty without one."""
    return {} if study.budget is None else trials.spent.measure(study.budget, study.workers, now)


def describe_budget(study: StudyFile, trials: Trials, now: float | None = None) -> Iterator[str]:
    """The line on the budget: what was used, what a trial takes, and what has ended because of it; nothing without one.

    `now` is in Unix seconds; None is the time of the last event, as for a study that may not run.
    """
    budget = study.budget
    if budget is None:
        return
    used = measure_use(study, trials, now)
    share = max(used[name] / limit for name, limit in budget.limits.items())
    parts = [f"budget: {describe_use(used, budget)} used ({100 * share:.0f} %)"]
    if forecast := _describe_trial(study, budget, trials):
        parts.append(forecast)
    yield "; ".join([*parts, *_describe_ends(study, trials)])


def describe_budget_now(study: StudyFile, trials: Trials) -> Iterator[str]:
    """The same line of a study that runs."""
    return describe_budget(study, trials, time.time())


def _describe_trial(study: StudyFile, budget: BudgetSettings, trials: Trials) -> str | None:
    """What a whole trial takes of each limit; None before any has reported two epochs."""
    epochs = max((record.planned_epochs or 0 for record in trials.values()), default=0)
    whole = Costs(trials).estimate_whole("", epochs, with_tests=False)
    if whole is None:
        return None
    rates = {
        name: 1 / SECONDS_PER_HOUR if name == "hours" else budget.find_rate(name, study.workers)
        for name in budget.limits
    }
    return "a whole trial takes about " + ", ".join(
        f"{whole.mean * rate:.2g} {NAMES[name]}" for name, rate in rates.items()
    )


def _describe_ends(study: StudyFile, trials: Trials) -> Iterator[str]:
    waiting = [
        record.number
        for record in trials.values()
        if record.state in (TrialState.INTERRUPTED, TrialState.WAITING) and is_closed(trials, study, SEARCH)
    ]
    if is_closed(trials, study, SEARCH):
        sampled = sum(record.baseline is None and record.confirms is None for record in trials.values())
        yield f"it has no room for another trial after {sampled} of {study.trials} sampled ones; a larger one has"
    if waiting:
        numbers = ", ".join(f"{number:04d}" for number in waiting[:5]) + (", ..." if len(waiting) > 5 else "")
        yield f"with it trial {numbers} would continue"
    if is_closed(trials, study, CONFIRMATION):
        confirmed = sum(record.confirms is not None and record.state.final for record in trials.values())
        yield f"of the finalists' new trainings it had room for {confirmed}"
