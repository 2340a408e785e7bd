"""The best trial of a study, and the recipes of its trials."""

from __future__ import annotations

import math
from collections.abc import Iterable

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.study_file import Objective
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState


def find_best(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The complete trial with the lowest objective; of equals the first.

    Trials are ranked as they are decoded in the end, unless the objective says otherwise, or one of them has no such
    figure: the two are never mixed.
    """
    metric: str = objective.metric
    usable = [record for record in records if record.state is TrialState.COMPLETE and _is_finite(record, metric)]
    final = f"{metric}_final"
    if objective.ranking == "final" and all(_is_finite(record, final) for record in usable):
        metric = final
    return min(usable, key=lambda record: (record.metrics[metric], record.number), default=None)


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
