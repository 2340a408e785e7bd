"""Whether a study's budget has room for its plan, from the probe of its base recipe."""

from __future__ import annotations

from collections.abc import Iterator

from study.config.budget import NAMES, SECONDS_PER_HOUR
from study.config.study_file import StudyFile
from study.execution.plan import Plan


def check_plan(study: StudyFile, plan: Plan) -> Iterator[str]:
    """A line for each limit of the budget: what the plan takes of it, and what follows; nothing without a budget."""
    for name, limit in () if study.budget is None else study.budget.limits.items():
        low, high = (_convert(study, name, hours * plan.concurrency) for hours in plan.hours)
        if name == "hours":
            low, high = plan.hours
        confirmed = high * _find_share(plan)
        line = f"budget: {limit:g} {NAMES[name]}, the study takes {low:.3g} to {high:.3g}"
        if high <= limit:
            yield f"{line}; all trials fit"
        elif confirmed > limit / 2:
            yield (
                f"{line}, {confirmed:.3g} of it to confirm finalists, which is more than half of the budget: nothing "
                f"is kept for that then. Raise budget.{name}, or lower confirmation.seeds or training.epochs"
            )
        elif low <= limit:
            yield f"{line}; all trials fit if many are stopped early"
        else:
            then = ", and finalists are confirmed" if plan.confirmations else ""
            yield f"{line}; the search ends before its {study.trials} trials{then}"


def _convert(study: StudyFile, name: str, worker_hours: float) -> float:
    """So many hours of trials, one after the other, as a limit counts them."""
    if study.budget is None or name == "hours":
        return worker_hours
    return worker_hours * SECONDS_PER_HOUR * study.budget.find_rate(name, study.workers)


def _find_share(plan: Plan) -> float:
    """The share of whole trainings that confirm finalists."""
    return plan.confirmations / max(1, plan.trials + plan.confirmations)
