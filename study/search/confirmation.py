"""The trainings that confirm finalists: their recipes with new seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from model.errors import UserError
from model.recipe.decoding import DecodingSearchConfig
from model.recipe.files import value_at, with_values
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
    from model.evaluation.decoding_search import LANGUAGE_MODELS, LENGTH_PENALTY, MIXING, name_beam, name_ctc_weight

    values: dict[str, Any] = {SEED: seed}
    if stage is not None:
        settings = recipe.decoding_search
        reached = _list_reached(settings, stage)
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


def take_decoding(recipe: Recipe, finalist: TrialRecord, base: Recipe, searched: Iterable[str]) -> Recipe:
    """A finalist's recipe with the settings that its decoding was searched by last: those of the study's `base` recipe,
    but for the keys that the study searches, where `decode` has searched all trials by them; else its own."""
    from model.evaluation.decoding_search import list_stages

    done = [stage["stage"] for stage in finalist.decoding_stages]
    settings = {name: getattr(base, name).model_dump(mode="json") for name in ("decoding", "decoding_search")}
    own = {key: value_at(recipe, key) for key in searched if key.split(".")[0] in settings}
    candidates = [recipe]
    with contextlib.suppress(UserError):  # settings that its model cannot have, as for other classifiers
        # No event says by which settings a trial was searched, but its stages do. Where they may be of both, they are
        # of the last search: one that was decoded after its end was decoded by the base recipe.
        candidates.insert(0 if finalist.was_decoded else 1, with_values(recipe, settings | own))
    fitting = (one for one in candidates if done and list_stages(one.decoding_search)[: len(done)] == done)
    return next(fitting, recipe)


def _list_reached(settings: DecodingSearchConfig, stage: str) -> list[str]:
    """The stages of a search until `stage`. Settings differ from trial to trial: where it has no such stage, those that
    come before it in a search that has both; all where no search has it."""
    from model.evaluation.decoding_search import LANGUAGE_MODELS, MIXING, list_stages

    stages, (kind, _, value) = list_stages(settings), stage.rpartition(" ")
    if stage not in stages:
        wider: dict[str, Any] = {LANGUAGE_MODELS: {"lm_weight": (1.0,)}, MIXING: {"mixing": (0.5,)}}.get(stage, {})
        with contextlib.suppress(ValueError):  # not a number
            if kind == "beam":
                wider = {"beam": (*settings.beam, int(value))}
            elif kind == "CTC weight":
                wider = {"ctc_weight": (*settings.ctc_weight, float(value))}
        stages = list_stages(settings.model_copy(update=wider))
    return stages[: stages.index(stage) + 1] if stage in stages else stages
