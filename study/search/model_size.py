"""The limit on a model's parameters, which are known before anything is trained."""

from __future__ import annotations

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.baselines import check_baselines
from study.config.study_file import Objective, StudyFile
from study.ledger.best import PARAMETERS


def find_excess(recipe: Recipe, objective: Objective) -> str | None:
    """Why a recipe's model is too large for the objective; None where it is not, or where there is no such limit."""
    limit = next((limit for name, limit in objective.limits.items() if name == PARAMETERS), None)
    if limit is None:
        return None
    from model.network.making import count_parameters  # torch takes seconds to import

    parameters = count_parameters(recipe)
    if parameters <= limit:
        return None
    return f"its model has {parameters:,} parameters, objective.limits allows {limit:,.0f}"


def check_baseline_sizes(study: StudyFile, base: Recipe) -> None:
    """A UserError for a named baseline that is too large: it would be asked for and never tried."""
    for name, recipe in check_baselines(study.baselines, base).items():
        if reason := find_excess(recipe, study.objective):
            raise UserError(
                f"baseline '{name}' cannot be tried: {reason}; leave it out of baselines, or raise the limit"
            )
