"""A study as one JSON object, for scripts: `decred-study status STUDY --json`.

Field names are kept. SCHEMA is raised when one goes or changes its meaning; fields may be added without that. Times
are Unix seconds. What is not known, and a figure that is not finite, is null.

schema, study {name, folder, state, reason, running {host, process}, question, objective {metric, mode, ranking, second,
limits}, began, changed, trials (the number in each state), best {number, metric, figure, stage, recipe_hash},
front {metrics, stage, trials [{number, figures}], lacking}, seconds_left, spent {hours, gpu_hours, cpu_hours}}, trials
[{number, state, reason, name, class, confirms, source, values, epoch, planned_epochs, metrics, started, ended, retries,
recipe_hash, node, device}], excluded_nodes [{node, reason, until}]
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from study.config.budget import BudgetSettings
from study.display.rows import Rows
from study.display.study_state import estimate_seconds_left, find_state, find_time_of_use
from study.ledger.best import find_best, rank_figures, rank_trials
from study.ledger.ledger import Ledger
from study.ledger.pareto import make_front
from study.ledger.records import TrialRecord, TrialState

SCHEMA = 1
_HOURS = BudgetSettings(hours=1.0, gpu_hours=1.0, cpu_hours=1.0)  # what is measured; its limits are of no interest


def make_status(ledger: Ledger, rows: Rows | None = None, now: float | None = None) -> dict[str, Any]:
    """The whole object, of JSON types alone; `rows` chooses and orders the trials, but figures are of all."""
    trials, study = ledger.trials, ledger.study
    state, reason, holder = find_state(ledger)
    now = time.time() if now is None else now
    until = find_time_of_use(trials, holder, now)  # None also where the driver of the next session still prepares
    counts = Counter(record.state for record in trials.values())
    chosen = (rows or Rows()).choose(trials.values(), study)
    return {
        "schema": SCHEMA,
        "study": {
            "name": study.name,
            "folder": str(ledger.folder.resolve()),
            "state": str(state),
            "reason": reason,
            "running": None if holder is None else {"host": holder.machine.host or None, "process": holder.pid or None},
            "question": study.effective_question,
            "objective": study.objective.model_dump(mode="json"),
            "began": trials.began,
            "changed": trials.changed,
            "trials": {str(one): counts[one] for one in TrialState},
            "best": _describe_best(ledger),
            "front": _describe_front(ledger),
            "seconds_left": None if until is None else estimate_seconds_left(study, ledger.base_recipe, trials, now),
            "spent": trials.spent.measure(_HOURS, study.workers, until),
        },
        "trials": [_describe_trial(record) for record in chosen],
        "excluded_nodes": [
            {"node": event.node, "reason": event.reason, "until": event.until}
            for event in trials.excluded
            if event.until is None or event.until > now
        ],
    }


def _describe_best(ledger: Ledger) -> dict[str, Any] | None:
    """The best trial, and the figure that it is ranked by."""
    records, objective = ledger.trials.values(), ledger.study.objective
    best = find_best(records, objective)
    if best is None:
        return None
    ranking = rank_trials(records, objective)
    if best.number not in ranking.figures:
        ranking = rank_figures([best], objective)
    return {
        "number": best.number,
        "metric": ranking.metric,
        "figure": _finite(ranking.figures.get(best.number)),
        "stage": ranking.stage,
        "recipe_hash": best.recipe_hash,
    }


def _describe_front(ledger: Ledger) -> dict[str, Any] | None:
    """The Pareto front; None for a study of one objective. `lacking` are complete trials without the second figure."""
    front = make_front(ledger.trials.values(), ledger.study.objective)
    if front is None:
        return None
    return {
        "metrics": list(front.metrics),
        "stage": front.stage,
        "trials": [{"number": one.number, "figures": [one.first, one.second]} for one in front.trials],
        "lacking": list(front.lacking),
    }


def _describe_trial(record: TrialRecord) -> dict[str, Any]:
    last = record.epochs[-1] if record.epochs else None
    return {
        "number": record.number,
        "state": str(record.state),
        "reason": record.reason,
        "name": record.baseline,
        "class": record.recipe_class or None,
        "confirms": record.confirms,
        "source": record.source,
        "values": _finite_all(record.values),
        "epoch": record.epoch,
        "planned_epochs": record.planned_epochs,
        "metrics": _finite_all(record.metrics),
        "started": record.started,
        "ended": record.ended,
        "retries": record.retries,
        "recipe_hash": record.recipe_hash or None,
        "node": last.node if last is not None else None,
        "device": last.device if last is not None else None,
    }


def _finite_all(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
