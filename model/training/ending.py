"""The end of a training: its weights are chosen, written down and scored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from model.errors import UserError
from model.evaluation.metrics import compute_dev_metrics
from model.evaluation.scoring import score_set, score_test_sets, write_hypotheses
from model.recipe.recipe import Recipe, SearchConfig
from model.runtime.distributed import DistributedContext
from model.training.moving_average import average_state
from model.training.run import ScoredRun, TrainingRun
from model.weights.checkpoint import load_weights
from model.weights.chosen import (
    CHOSEN,
    STOPPED,
    Chosen,
    average_candidates,
    choose_candidates,
    read_chosen,
    save_chosen,
)

FINAL = ("wer", "cer")  # metrics of the dev sets that `decoding` decides; perplexities do not depend on it


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
    )
    if settings.choose == "ema":
        state = average_state(run.model, run.optimiser)
        chosen = replace(chosen, metrics=_validate(run, state))
    else:
        found = choose_candidates(run.folder, settings) if run.context.rank == 0 else []
        candidates = run.context.from_rank_0(found)  # others may be here before rank 0 has kept the last epoch's
        state = average_candidates(run.folder, candidates)
        metrics = candidates[0].metrics if len(candidates) == 1 else _validate(run, state)
        chosen = replace(chosen, epochs=tuple(candidate.epoch for candidate in candidates), metrics=metrics)
    if run.context.rank == 0:
        save_chosen(run.folder, state, chosen)
    run.context.barrier()
    return chosen


def _validate(run: ScoredRun, state: Mapping[str, Tensor]) -> dict[str, float]:
    run.model.load_state_dict(state)
    return _score_dev(run, run.recipe.validation, "dev")


def score_chosen(run: ScoredRun, chosen: Chosen, score_tests: bool) -> dict[str, float]:
    """The last report of a training: the metrics of the chosen weights."""
    began = time.monotonic()
    recipe, decoding = run.recipe, run.recipe.decoding
    load_weights(run.folder / CHOSEN, run.model)
    run.model.tokens_per_second = chosen.tokens_per_second
    final = _score_dev(run, decoding, "dev-final") if differs(decoding, recipe.validation) else chosen.metrics
    metrics = chosen.metrics | {f"dev/{name}_final": final[f"dev/{name}"] for name in FINAL}
    if score_tests:
        scoring = run.model, run.corpus, recipe.test_decoding or decoding, run.tokenizer, run.context
        metrics |= score_test_sets(*scoring, run.hypotheses)
    facts = {"epoch": float(chosen.epoch), "step": float(chosen.step), "chosen_epoch": float(chosen.epochs[0])}
    return metrics | facts | {"decoding/seconds": time.monotonic() - began, "finished": 1.0}


def _score_dev(run: ScoredRun, decoding: SearchConfig, name: str) -> dict[str, float]:
    scored = score_set(run.model, run.dev, decoding, run.tokenizer, run.context)
    write_hypotheses(scored, run.hypotheses / f"{name}.jsonl", run.corpus, decoding, run.context)
    return compute_dev_metrics(run.corpus, run.dev, scored, run.model.decoder.placement)


def differs(decoding: SearchConfig, validation: SearchConfig) -> bool:
    """Whether they may find other hypotheses."""
    search = set(SearchConfig.model_fields) - {"batch_seconds"}
    mixed = getattr(decoding, "mixing", "none") != "none"
    return mixed or any(getattr(decoding, key) != getattr(validation, key) for key in search)
