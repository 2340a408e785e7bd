"""The trainings that confirm finalists: their recipes with new seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.search_settings import SEED
from study.config.study_file import StudyFile
from study.ledger.events import FinalistsChosen
from study.ledger.records import TrialRecord
from study.verdict.finalists import list_new_seeds

MOST_SHARE = 0.99  # of its training's seconds that the search for a decoding may take


def list_untried(
    selection: FinalistsChosen, trials: Mapping[int, TrialRecord], study: StudyFile, base: Recipe
) -> list[tuple[int, int]]:
    """The finalists' numbers and the seeds that they are not yet trained with, seed by seed."""
    tried = {(record.confirms, record.values.get(SEED)) for record in trials.values() if record.confirms is not None}
    wanted = [
        (finalist.number, seed)
        for seed in list_new_seeds(study, base.training.seed)
        for finalist in selection.finalists
    ]
    return [pair for pair in wanted if pair not in tried]


def make_confirmation(recipe: Recipe, seed: int, stage: str | None) -> Recipe:
    """A finalist's recipe with another seed. Its decoding is searched until the stage that all trials had reached,
    however long that takes: so its figures are those of the same procedure whatever the machine does meanwhile."""
    # Here, because torch takes seconds.
    from model.evaluation.decoding_search import (
        LANGUAGE_MODELS,
        LENGTH_PENALTY,
        MIXING,
        list_stages,
        name_beam,
        name_ctc_weight,
    )

    values: dict[str, Any] = {SEED: seed}
    if stage is not None:
        settings = recipe.decoding_search
        stages = list_stages(settings)
        reached = stages[: stages.index(stage) + 1]
        values |= {
            "decoding_search.share": MOST_SHARE,
            "decoding_search.ctc_weight": [one for one in settings.ctc_weight if name_ctc_weight(one) in reached],
            "decoding_search.beam": [beam for beam in settings.beam if name_beam(beam) in reached],
            "decoding_search.lm_weight": settings.lm_weight if LANGUAGE_MODELS in reached else [],
            "decoding_search.ilm_weight": settings.ilm_weight if LANGUAGE_MODELS in reached else [],
            "decoding_search.mixing": settings.mixing if MIXING in reached else [],
            "decoding_search.length_penalty": settings.length_penalty if LENGTH_PENALTY in reached else [],
        }
    return with_values(recipe, values)
