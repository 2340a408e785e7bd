"""`evaluate`: score the weights of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from model.commands.decoding_options import IlmWeight, LmFile, LmWeight, TrustCode, language_model_keys
from model.commands.formatting import format_estimators, format_references, format_sets


def evaluate(
    folder: Annotated[
        Path, typer.Argument(help="folder of a run, of a trial, or of an exported model", show_default=False)
    ],
    beam: Annotated[
        int | None, typer.Option(min=1, help="hypotheses kept for an utterance, instead of the recipe's")
    ] = None,
    ctc_weight: Annotated[float | None, typer.Option(help="weight of CTC in decoding, instead of the recipe's")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="another corpus to score on; the run's own is not needed then")
    ] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="decode with the weights that `mix` learned")] = False,
    lm: LmFile = None,
    lm_weight: LmWeight = None,
    ilm_weight: IlmWeight = None,
    ilm: Annotated[
        bool, typer.Option("--ilm", help="measure the internal language model by other estimators, too")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Score the weights that a run chose on dev and test sets, those of its own corpus or of another one.

    The scored utterances are written to the folder `evaluation` of the run.
    """
    from model.corpora.corpus import read_corpus
    from model.recipe.files import read_recipe

    models = language_model_keys(lm, lm_weight, ilm_weight)
    metrics = score_run(folder, beam, ctc_weight, corpus, mixed, models, ilm, trust_code)
    scored = read_corpus(corpus or Path(read_recipe(folder / "recipe.yaml").data.corpus))
    published = {name: figures for name, figures in scored.references.items() if f"test/{name}/wer" in metrics}
    typer.echo("\n".join([*format_sets(metrics), *format_estimators(metrics), *format_references(published)]))


def score_run(
    folder: Path,
    beam: int | None = None,
    ctc_weight: float | None = None,
    corpus: Path | None = None,
    mixed: bool = False,
    language_models: Mapping[str, Any] = MappingProxyType({}),
    estimators: bool = False,
    trust_code: bool = False,
) -> dict[str, float]:
    """The metrics of the dev and test sets of the run's corpus, or of another one, which `evaluate` prints.

    `language_models` has keys of the recipe's `decoding`. With `estimators` there are those of
    model/evaluation/ilm_estimators.py, too. `trust_code` is that of `load_run`.
    """
    from model.api import load_run
    from model.data.recipe_inputs import load_corpus
    from model.decoding.mixing import load_mixing
    from model.evaluation.ilm_estimators import refuse_estimators, score_estimators
    from model.evaluation.metrics import compute_dev_metrics
    from model.evaluation.scoring import load_dev_utterances, score_set, score_test_sets, write_hypotheses
    from model.recipe.files import with_values
    from model.runtime.distributed import current_context
    from model.runtime.memory import keep_freed_memory
    from model.weights.chosen import place_beside

    run = load_run(folder, trust_code)
    if estimators:
        refuse_estimators(run.recipe)
    if mixed:
        load_mixing(run.model, place_beside(folder, run.checkpoint))
    changes: dict[str, Any] = {"decoding.beam": beam, "decoding.ctc_weight": ctc_weight}
    changes = {key: value for key, value in changes.items() if value is not None}
    changes |= {f"decoding.{key}": value for key, value in language_models.items()}
    if corpus:
        changes |= {"data.corpus": str(corpus.resolve()), "data.fingerprint": None}
    recipe = with_values(run.recipe, changes)
    keep_freed_memory()
    tokenizer, context, data = run.require_tokenizer(), current_context(), load_corpus(recipe, to_train=False)
    out, decoding, metrics = folder / "evaluation", recipe.decoding, dict[str, float]()
    if data.set_names("dev"):
        scored = score_set(run.model, load_dev_utterances(data, tokenizer), decoding, tokenizer, context)
        write_hypotheses(scored, out / "dev.jsonl", data, decoding, context)
        metrics = compute_dev_metrics(data, scored, run.model.decoder.placement)
    if estimators:
        metrics |= score_estimators(run.model, data, tokenizer, context, decoding.batch_seconds)
    return metrics | score_test_sets(run.model, data, decoding, tokenizer, context, out)
