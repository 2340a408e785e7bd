"""The end of a training: its weights are chosen, written down and scored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from model.corpora.corpus import Corpus
from model.data.utterances import Utterances
from model.errors import UserError
from model.evaluation.decoding_clock import DecodingClock
from model.evaluation.decoding_search import DecodingSearch, best_decoding, search_decoding
from model.evaluation.ilm_estimators import score_dev_estimators
from model.evaluation.metrics import compute_dev_metrics, dev_error_rates
from model.evaluation.scoring import score_set, score_test_sets, write_hypotheses
from model.recipe.decoding import DecodingConfig, SearchConfig
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.training.moving_average import average_state
from model.training.run import ScoredRun, TrainingRun
from model.weights.checkpoint import load_weights
from model.weights.chosen import CHOSEN, STOPPED, Chosen, choose_candidates, fetch_chosen, read_chosen
from model.weights.chosen_weights import average_candidates, save_chosen
from model.weights.found_decoding import FoundDecoding, identify_search, read_found, save_found

FINAL = ("/wer", "/cer", "/rtf")  # ends of the metrics that the decoding decides; perplexities do not depend on it
FINAL_OF_PART = ("/perplexity", "/ilm_perplexity")  # but where epochs' are of a part of the dev sets, these are of all


def read_finished(recipe: Recipe, folder: Path, context: DistributedContext) -> Chosen | None:
    """What was chosen where the recipe's training in `folder` has come to its end, as rank 0 reads it."""
    found: Chosen | UserError | None = None
    if context.rank == 0:
        try:
            found = read_chosen(folder)
        except UserError as error:
            found = error
    found = context.from_rank_0(found)
    if isinstance(found, UserError):
        raise found
    if found is not None and found.recipe_hash != recipe.hash:
        raise UserError(
            f"{folder / CHOSEN}: was trained with recipe {found.recipe_hash}, but this is {recipe.hash}; "
            "give another folder, or the recipe that is in this one"
        )
    return None if found is None or found.rule == STOPPED else found


def choose_and_save(run: TrainingRun) -> Chosen:
    """Choose the weights as the recipe's `training.choose` has it, and write them into the run's folder."""
    settings = run.recipe.training
    chosen = Chosen(
        rule=settings.choose,
        epochs=(run.state.epoch,),
        epoch=run.state.epoch,
        step=run.state.step,
        recipe_hash=run.recipe.hash,
        tokens_per_second=run.model.tokens_per_second,
        seconds=run.state.seconds,
    )
    if settings.choose == "ema":
        state = average_state(run.model, run.optimiser)
        chosen = replace(chosen, metrics=_validate_state(run, state))
    else:
        found = choose_candidates(run.folder, settings) if run.context.rank == 0 else []
        candidates = run.context.from_rank_0(found)  # others may be here before rank 0 has kept the last epoch's
        state = average_candidates(run.folder, candidates)
        metrics = candidates[0].metrics if len(candidates) == 1 else _validate_state(run, state)
        chosen = replace(chosen, epochs=tuple(candidate.epoch for candidate in candidates), metrics=metrics)
    if run.context.rank == 0:
        save_chosen(run.folder, state, chosen)
    run.context.barrier()
    return chosen


def validate(run: ScoredRun) -> dict[str, float]:
    """The metrics of the dev sets by the recipe's `validation`, or of the part of them that it names."""
    metrics = _score_dev(run, run.validated, run.recipe.validation, "dev")
    return metrics | ({"dev/utterances": float(len(run.validated))} if run.validates_part else {})


def _validate_state(run: ScoredRun, state: Mapping[str, Tensor]) -> dict[str, float]:
    run.model.load_state_dict(state)
    return validate(run)


def score_chosen(run: ScoredRun, chosen: Chosen, score_tests: bool) -> dict[str, float]:
    """The last report of a training: the metrics of the chosen weights."""
    began = time.monotonic()
    recipe, decoding = run.recipe, run.recipe.decoding
    load_weights(fetch_chosen(run.folder), run.model)
    run.model.tokens_per_second = chosen.tokens_per_second
    found = find_decoding(run, chosen.seconds) if recipe.decoding_search.share else None
    if found is not None:
        decoding = DecodingConfig.model_validate(found.decoding)
    is_new = found is not None or run.validates_part or differs(decoding, recipe.validation)
    final = _score_dev(run, run.dev, decoding, "dev-final") if is_new else chosen.metrics
    ends = (*FINAL, *FINAL_OF_PART) if run.validates_part else FINAL
    metrics = chosen.metrics | {f"{name}_final": value for name, value in final.items() if name.endswith(ends)}
    if estimators := recipe.validation.ilm_estimators:
        measured = run.model, run.dev, estimators, run.context, recipe.validation.batch_seconds
        metrics |= score_dev_estimators(*measured)
    if found is not None:
        metrics |= describe_search(decoding, found)
    if score_tests:
        scoring = run.model, run.corpus, recipe.test_decoding or decoding, run.tokenizer, run.context
        metrics |= score_test_sets(*scoring, run.hypotheses)
    facts = {"epoch": float(chosen.epoch), "step": float(chosen.step), "chosen_epoch": float(chosen.epochs[0])}
    facts["parameters"] = float(sum(parameter.numel() for parameter in run.model.parameters()))
    return metrics | facts | {"decoding/seconds": time.monotonic() - began, "finished": 1.0}


def find_decoding(run: ScoredRun, training_seconds: float) -> FoundDecoding:
    """The decoding that the recipe's search finds on the dev sets, or has found before, for the run's model."""
    earlier: FoundDecoding | UserError | None = None
    if run.context.rank == 0:
        try:
            earlier = read_found(run.folder)
        except UserError as error:
            earlier = error
    earlier = run.context.from_rank_0(earlier)
    if isinstance(earlier, UserError):
        raise earlier
    if earlier is not None and earlier.answers(run.recipe):
        return earlier
    settings, began = run.recipe.decoding_search, time.monotonic()
    limit = settings.share * training_seconds
    scene = run.tokenizer, run.context
    done = search_decoding(run.model, run.dev, run.recipe.decoding, settings, *scene, limit)
    seconds = run.context.max_over_ranks([time.monotonic() - began])[0]
    found = FoundDecoding(
        search=identify_search(run.recipe),
        decoding=best_decoding(done.tried).decoding.model_dump(mode="json"),
        tried=[
            {
                "stage": one.stage,
                "decoding": one.decoding.model_dump(mode="json"),
                "words": {name: list(edits) for name, edits in one.sets.items()},
                "seconds": one.seconds,
            }
            for one in done.tried
        ],
        stages=describe_stages(run.corpus, done),
        seconds=seconds,
        share=seconds / training_seconds if training_seconds else 0.0,
    )
    if run.context.rank == 0:
        save_found(run.folder, found)
    return found


def describe_stages(corpus: Corpus, search: DecodingSearch) -> list[dict[str, Any]]:
    """For each stage that a search has done, the best decoding until its end, and its error rates on the dev sets."""
    stages: list[dict[str, Any]] = []
    for number, stage in enumerate(search.stages, start=1):
        best = best_decoding([one for one in search.tried if one.stage in search.stages[:number]])
        metrics = dev_error_rates(corpus, best.sets)
        stages.append({"stage": stage, "decoding": best.decoding.model_dump(mode="json"), "metrics": metrics})
    return stages


def describe_search(decoding: DecodingConfig, found: FoundDecoding) -> dict[str, float]:
    """What was found, and what the search cost, as metrics."""
    return {
        "decoding/ctc_weight": decoding.ctc_weight,
        "decoding/beam": float(decoding.beam),
        "decoding/length_penalty": decoding.length_penalty,
        **_describe_weights(decoding, found),
        "decoding/tried": float(len(found.tried)),
        "decoding/search_seconds": found.seconds,
        "decoding/search_share": found.share,
    }


def _describe_weights(decoding: DecodingConfig, found: FoundDecoding) -> dict[str, float]:
    """The weights of language models, where any were tried."""
    names = "lm_weight", "ilm_weight"
    is_tried = any(one["decoding"].get(name) for one in found.tried for name in names)
    return {f"decoding/{name}": float(getattr(decoding, name)) for name in names} if is_tried else {}


def _score_dev(run: ScoredRun, dev: Utterances, decoding: SearchConfig, name: str) -> dict[str, float]:
    clock = DecodingClock()
    scored = score_set(run.model, dev, decoding, run.tokenizer, run.context, clock)
    write_hypotheses(scored, run.hypotheses / f"{name}.jsonl", run.corpus, decoding, run.context)
    metrics = compute_dev_metrics(run.corpus, scored, run.model.decoder.placement)
    return metrics | {"dev/rtf": clock.find_real_time_factor(run.context)}


def differs(decoding: SearchConfig, validation: SearchConfig) -> bool:
    """Whether they may find other hypotheses."""
    search = set(SearchConfig.model_fields) - {"batch_seconds"}
    is_own = isinstance(decoding, DecodingConfig) and (decoding.mixing != "none" or decoding.fuses)
    return is_own or any(getattr(decoding, key) != getattr(validation, key) for key in search)
