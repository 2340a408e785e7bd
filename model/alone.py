"""Training and evaluating one recipe in this process, without Ray: the debugger of every trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model import checkpoint
from model.errors import UserError
from model.evaluate import dev_utterances, score_set, score_tests, set_metrics, write_hypotheses
from model.loop import train
from model.prepare import corpus_of, prepare, tokenizer_of
from model.recipe_files import read_recipe, with_values
from model.recogniser import Recogniser
from model.workers import current_workers

METRICS_FILE = "metrics.jsonl"


def train_recipe(path: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Train a recipe file in `folder`, going on from its last checkpoint; every epoch is said and kept as a line."""
    recipe = prepare(read_recipe(path))
    say(f"recipe {recipe.name} {recipe.hash} on {recipe.data.corpus}, in {folder}")

    def report(metrics: dict[str, float]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")
        say(epoch_line(metrics, recipe.training.epochs))

    train(recipe, folder, report)


def epoch_line(metrics: dict[str, float], epochs: int) -> str:
    """One epoch in one line, and the test sets when it is the last."""
    line = (
        f"epoch {int(metrics['epoch'])}/{epochs}  loss {metrics['train/loss']:.3f}  "
        f"dev WER {metrics['dev/wer']:.1f} %  "
        f"perplexity {metrics['dev/perplexity']:.2f}  ILM perplexity {metrics['dev/ilm_perplexity']:.1f}  "
        f"{metrics['train/seconds'] + metrics['dev/seconds']:.0f} s"
    )
    return "\n".join([line, *set_lines({key: metrics[key] for key in metrics if not key.startswith("dev/")})])


def set_lines(metrics: dict[str, float]) -> list[str]:
    """WER and internal-LM perplexity of each set and each domain, a line each."""
    sets = [key.removesuffix("/wer") for key in metrics if key.endswith("/wer")]
    return [
        f"{name}: WER {metrics[f'{name}/wer']:.1f} %  ILM perplexity {metrics[f'{name}/ilm_perplexity']:.1f}"
        for name in sets
    ]


def evaluate_checkpoint(
    folder: Path, beam: int | None = None, ctc_weight: float | None = None, corpus: Path | None = None
) -> dict[str, float]:
    """Score the last checkpoint of a run's folder on the dev and test sets of its corpus, or of another one.

    The scored utterances are written to `folder`/evaluation.
    """
    latest = checkpoint.latest_checkpoint(folder / checkpoint.CHECKPOINTS)
    if latest is None:
        raise UserError(f"{folder}: holds no checkpoint; give the folder of a training run, as `train --out` makes it")
    trained = read_recipe(folder / "recipe.yaml")
    tokenizer = tokenizer_of(trained, corpus_of(trained))
    changes: dict[str, Any] = {"decoding.beam": beam, "decoding.ctc_weight": ctc_weight}
    changes = {key: value for key, value in changes.items() if value is not None}
    if corpus:
        changes |= {"data.corpus": str(corpus.resolve()), "data.fingerprint": None}
    recipe = with_values(trained, changes)
    model = Recogniser(trained)
    checkpoint.load_weights(latest, model)
    workers, data, out = current_workers(), corpus_of(recipe), folder / "evaluation"
    scored = score_set(model.to(workers.device), dev_utterances(data, tokenizer), recipe.decoding, tokenizer, workers)
    write_hypotheses(scored, out / "dev.jsonl", workers)
    return set_metrics(scored, "dev") | score_tests(model, data, recipe.decoding, tokenizer, workers, out)
