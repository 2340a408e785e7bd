"""Training and evaluating one recipe in this process, without Ray: the debugger of every trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from model.data.batches import Batch, TrainingSet
from model.data.tokenizer import Tokenizer
from model.decoding.mixing import learn_mixing, load_mixing, save_mixing
from model.errors import UserError
from model.evaluation.evaluate import dev_utterances, score_set, score_tests, set_metrics, write_hypotheses
from model.network.recogniser import Recogniser
from model.recipe.files import read_recipe, with_values
from model.recipe.recipe import AugmentationConfig
from model.runtime.memory import keep_freed_memory
from model.runtime.workers import current_workers
from model.training.loop import train
from model.training.prepare import corpus_of, prepare, tokenizer_of
from model.weights import checkpoint

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
    folder: Path,
    beam: int | None = None,
    ctc_weight: float | None = None,
    corpus: Path | None = None,
    mixed: bool = False,
) -> dict[str, float]:
    """Score the last checkpoint of a run's folder on the dev and test sets of its corpus, or of another one.

    `mixed` decodes with the weights of the classifiers that `mix_checkpoint` learned. The scored utterances are
    written to `folder`/evaluation.
    """
    latest, model, tokenizer = _trained(folder)
    if mixed:
        load_mixing(model, latest)
    changes: dict[str, Any] = {"decoding.beam": beam, "decoding.ctc_weight": ctc_weight}
    changes = {key: value for key, value in changes.items() if value is not None}
    if corpus:
        changes |= {"data.corpus": str(corpus.resolve()), "data.fingerprint": None}
    recipe = with_values(model.recipe, changes)
    keep_freed_memory()
    workers, data, out = current_workers(), corpus_of(recipe), folder / "evaluation"
    scored = score_set(model.to(workers.device), dev_utterances(data, tokenizer), recipe.decoding, tokenizer, workers)
    write_hypotheses(scored, out / "dev.jsonl", workers)
    return set_metrics(scored, "dev") | score_tests(model, data, recipe.decoding, tokenizer, workers, out)


def mix_checkpoint(folder: Path, per_token: bool, epochs: int, say: Callable[[str], None]) -> None:
    """Learn how to mix the classifiers of a run's last checkpoint, on its training set, and keep the weights beside it.

    The training set is read as in training, in the order of its seed, but without SpecAugment.
    """
    keep_freed_memory()
    latest, model, tokenizer = _trained(folder)
    recipe, workers = model.recipe, current_workers()
    training = TrainingSet(
        corpus_of(recipe), recipe.data, AugmentationConfig(time_masks=0, frequency_masks=0), tokenizer
    )

    def batches(epoch: int) -> Iterator[Batch]:
        for batch in training.plan(epoch):
            yield from training.share(batch, 0, 1, recipe.optimiser.accumulate, recipe.data.seed)

    weights = learn_mixing(model.to(workers.device), batches, per_token, epochs)
    placement = [*(f"layer {layer}" for layer in model.decoder.placement), "final"]
    means = weights if weights.dim() == 1 else weights.mean(dim=1)
    said = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(placement, means.tolist(), strict=True))
    say(f"weights{' (means over tokens)' if per_token else ''}: {said}; written to {save_mixing(weights, latest)}")


def _trained(folder: Path) -> tuple[Path, Recogniser, Tokenizer]:
    """The last checkpoint of a run's folder, its model with that checkpoint's weights, its tokenizer."""
    latest = checkpoint.latest_checkpoint(folder / checkpoint.CHECKPOINTS)
    if latest is None:
        raise UserError(f"{folder}: holds no checkpoint; give the folder of a training run, as `train --out` makes it")
    recipe = read_recipe(folder / "recipe.yaml")
    model = Recogniser(recipe)
    checkpoint.load_weights(latest, model)
    return latest, model, tokenizer_of(recipe, corpus_of(recipe))
