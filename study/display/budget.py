"""What of a study's budget is used, and what its trials will still take, in one line or in parts of one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

from study.config.budget import NAMES, BudgetSettings, describe_use
from study.config.study_file import StudyFile
from study.evidence.costs import Costs, Seconds
from study.evidence.reserve import find_margin
from study.ledger.budget_events import CONFIRMATION, SEARCH
from study.ledger.open_parts import is_closed
from study.ledger.records import TrialState
from study.ledger.steering import TRIALS
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
    yield "; ".join([*parts, *_describe_ends(study, trials, used)])


def find_limit(study: StudyFile, trials: Trials, concurrency: int, now: float | None = None) -> float:
    """The seconds after which the budget is used up by so many trials at the same time; infinite without one."""
    budget, left = study.budget, [math.inf]
    for name, used in measure_use(study, trials, now).items():
        if budget is not None:
            at_a_time = 1 if name == "hours" else concurrency
            left.append(max(0.0, budget.limits[name] - used) / (at_a_time * budget.find_rate(name, study.workers)))
    return min(left)


def describe_budget_now(study: StudyFile, trials: Trials) -> Iterator[str]:
    """The same line of a study that runs."""
    return describe_budget(study, trials, time.time())


def _describe_trial(study: StudyFile, budget: BudgetSettings, trials: Trials) -> str | None:
    """What a whole trial takes of each limit; None before any has reported two epochs."""
    whole = _estimate_trial(trials)
    if whole is None:
        return None
    takes = (f"{whole.mean * budget.find_rate(name, study.workers):.2g} {NAMES[name]}" for name in budget.limits)
    return "a whole trial takes about " + ", ".join(takes)


def _describe_ends(study: StudyFile, trials: Trials, used: Mapping[str, float]) -> Iterator[str]:
    if is_closed(trials, study, SEARCH):
        sampled = sum(
            record.baseline is None and record.confirms is None and record.enqueued_by is None
            for record in trials.values()
        )
        asked = trials.steering.get(TRIALS, study.trials)
        yield f"it has no room for another trial after {sampled} of {asked} sampled ones; a larger one has"
        yield from _describe_rest(study, trials, used)
        interrupted = _list_numbers(trials, TrialState.INTERRUPTED)
        if interrupted:
            numbers = ", ".join(f"{number:04d}" for number in interrupted[:5])
            yield f"with it trial {numbers}{', ...' if len(interrupted) > 5 else ''} would continue"
        if waiting := len(_list_numbers(trials, TrialState.WAITING)):
            wait = "trial waits at its rung" if waiting == 1 else "trials wait at their rungs"
            yield f"{waiting} {wait}, and with it the best of a rung would continue"
        if enqueued := len(trials.steering.enqueued):
            yield f"{enqueued} enqueued {'recipe waits' if enqueued == 1 else 'recipes wait'} for it"
    if is_closed(trials, study, CONFIRMATION):
        confirmed = sum(record.confirms is not None and record.state.final for record in trials.values())
        yield f"of the finalists' new trainings it had room for {confirmed}"


def _describe_rest(study: StudyFile, trials: Trials, used: Mapping[str, float]) -> Iterator[str]:
    """What is left of the limit that ended the search, beside what a whole trial may take of it."""
    budget, whole = study.budget, _estimate_trial(trials)
    if budget is None or whole is None:
        return
    name = max(used, key=lambda name: used[name] / budget.limits[name])
    left, most = budget.limits[name] - used[name], whole.high * budget.find_rate(name, study.workers)
    at_a_time = max(1, trials.session.concurrency) if trials.session is not None else 1
    if left < most + find_margin(study, budget, name, at_a_time):  # else it is what was kept for finalists
        stopping = "" if left < most else " with what stopping in order may take"
        yield f"a trial takes up to {most:.2g} {NAMES[name]}, {left:.2g} is left{stopping}"


def _estimate_trial(trials: Trials) -> Seconds | None:
    """Of the longest trial so far, and of the class that takes longest."""
    epochs = max((record.planned_epochs or 0 for record in trials.values()), default=0)
    return Costs(trials).estimate_whole("", epochs, with_tests=False)


def _list_numbers(trials: Trials, state: TrialState) -> list[int]:
    return [record.number for record in trials.values() if record.state is state]
