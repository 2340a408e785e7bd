"""What is known of an exported model, gathered from a study's ledger or from the folder of a single run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from model.corpora.corpus import read_corpus
from model.errors import UserError
from model.network.making import count_parameters
from model.recipe.files import read_recipe, with_values
from model.recipe.recipe import Recipe
from model.weights.chosen import read_chosen
from model.weights.found_decoding import with_found_decoding
from study.config.question import class_of
from study.display.model_card import PAPER, CorpusFacts, ModelFacts, Training
from study.ledger.ledger import Ledger
from study.ledger.manifest import find_version
from study.ledger.records import TrialRecord, TrialState

METRICS_FILE = "metrics.jsonl"  # that `decred-study train` writes
_KINDS = {
    "ed": "trained with CTC beside attention",
    "decred": "DeCRED, trained with auxiliary classifiers on decoder layers {layers}",
    "interctc": "trained with CTC on encoder layers {ctc_layers} too",
}
_LANGUAGES = {"whisper-english": "en"}  # of normalisers that are made for one


def gather_trial(ledger: Ledger, record: TrialRecord, recipe: Recipe) -> ModelFacts:
    """The facts of a trial's model; `recipe` has its decoding."""
    trials, study = ledger.trials, ledger.study
    finalist = record.number if record.confirms is None else record.confirms
    repeats = [other for other in trials.values() if other.confirms == finalist and other.number != record.number]
    complete = [_read_training(ledger, other) for other in repeats if other.state is TrialState.COMPLETE]
    seconds = record.ended - record.started if record.ended and record.started else None
    role = "a training with a new seed" if record.confirms is not None else f"one of {len(trials)} trials"
    return ModelFacts(
        name=f"{study.name}-{record.number:04d}",
        description=f"{_describe(recipe)} It is trial {record.number} of the study {study.name}, {role}.",
        training=_read_training(ledger, record),
        repeats=tuple(complete),
        study=study.name,
        workers={name: getattr(study.workers, name) for name in ("count", "cpus", "gpus")},
        seconds=seconds,
        data_share=recipe.training.data_share,
        corpus=read_corpus_facts(recipe),
        version=find_version(),
    )


def gather_run(run: Path, recipe: Recipe) -> ModelFacts:
    """The facts of a single run, which `decred-study train` made; its metrics are those that it printed last."""
    chosen = read_chosen(run)
    metrics = dict(chosen.metrics) if chosen else {}
    if (run / METRICS_FILE).is_file():
        reports = [json.loads(line) for line in (run / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
        metrics |= reports[-1] if reports and reports[-1].get("finished") else {}
    return ModelFacts(
        name=run.resolve().name,
        description=f"{_describe(recipe)} It is a single training, of no study.",
        training=Training(None, recipe.training.seed, recipe.hash, _dump_decoding(recipe), _keep_finite(metrics)),
        data_share=recipe.training.data_share,
        corpus=read_corpus_facts(recipe),
        version=find_version(),
    )


def read_run_recipe(run: Path) -> Recipe:
    """The recipe of a run's folder with the decoding that was found for it."""
    return with_found_decoding(read_recipe(run / "recipe.yaml"), run)


def _read_training(ledger: Ledger, record: TrialRecord) -> Training:
    recipe = ledger.read_recipe(record)
    if record.found_decoding is not None:
        recipe = with_values(recipe, {"decoding": record.found_decoding})
    decoding = _dump_decoding(recipe)
    metrics = _keep_finite(record.final_metrics or record.metrics)
    return Training(record.number, recipe.training.seed, record.recipe_hash, decoding, metrics)


def _dump_decoding(recipe: Recipe) -> dict[str, Any]:
    """The decoding without the place of its language model, which is nobody's business."""
    return recipe.decoding.model_dump(mode="json", exclude={"lm"} if recipe.decoding.lm is not None else set())


def _keep_finite(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(metrics.items()) if math.isfinite(value)}


def _describe(recipe: Recipe) -> str:
    kind = _KINDS.get(class_of(recipe), _KINDS["ed"]).format(
        layers=list(recipe.loss.auxiliary.placement), ctc_layers=list(recipe.loss.inter_ctc.layers)
    )
    if recipe.custom_model.factory is not None:
        network = f"the network of {recipe.custom_model.factory}"
        return f"A speech recogniser of {count_parameters(recipe):,} parameters: {network}, {kind} ({PAPER})."
    return (
        f"A speech recogniser of {count_parameters(recipe):,} parameters: a {recipe.encoder.layers}-layer "
        f"E-Branchformer encoder and a {recipe.decoder.layers}-layer Transformer decoder, {kind} ({PAPER})."
    )


def read_corpus_facts(recipe: Recipe) -> CorpusFacts | None:
    """What is known of the recipe's corpus; None where it is not here any more, or is another one by now."""
    try:
        corpus = read_corpus(Path(recipe.data.corpus))
    except UserError:
        return None
    if recipe.data.fingerprint not in (None, corpus.fingerprint):
        return None
    sets = {
        name: {
            "role": info.role,
            "domain": info.domain,
            "hours": round(info.seconds / 3600, 4),
            "utterances": info.utterances,
        }
        for name, info in corpus.sets.items()
    }
    return CorpusFacts(corpus.name, corpus.fingerprint, corpus.normaliser_version, sets)


def guess_language(facts: ModelFacts) -> str | None:
    """The language of a corpus whose normaliser is made for one."""
    return _LANGUAGES.get(facts.corpus.normaliser.split()[0]) if facts.corpus else None
