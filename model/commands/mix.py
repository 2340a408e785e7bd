"""`mix`: learn how much each classifier of a trained model counts in decoding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.commands.decoding_options import TrustCode

if TYPE_CHECKING:
    from torch import Tensor

    from model.api import Run
    from model.data.batches import Batch


def mix(
    folder: Annotated[Path, typer.Argument(help="folder of a run, or of a trial", show_default=False)],
    per_token: Annotated[
        bool, typer.Option("--per-token", help="a weight for each token of each classifier, not one for all")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training set")] = 3,
    trust_code: TrustCode = False,
) -> None:
    """Learn to mix the classifiers of a run's last checkpoint, for `evaluate --mixed`.

    The model is frozen. The weights are learned on the run's training set and written beside the checkpoint.
    """
    from model.api import load_run
    from model.decoding.mixing import save_mixing
    from model.runtime.memory import keep_freed_memory
    from model.weights.chosen import place_beside

    keep_freed_memory()
    run = load_run(folder, trust_code)
    weights = learn_weights(run, per_token, epochs)
    path = save_mixing(weights, place_beside(folder, run.checkpoint))
    names = [*(f"layer {layer}" for layer in run.recipe.loss.auxiliary.placement), "final"]
    means = weights if weights.dim() == 1 else weights.mean(dim=1)
    values = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(names, means.tolist(), strict=True))
    typer.echo(f"weights{' (means over tokens)' if per_token else ''}: {values}; written to {path}")


def learn_weights(run: Run, per_token: bool, epochs: int) -> Tensor:
    """The mixing weights (N,), or (N, V) `per_token`, of the run's N classifiers, the final one last.

    The training set is read as in training, in the order of its seed, but without SpecAugment.
    """
    from model.data.batches import TrainingSet
    from model.data.recipe_inputs import load_corpus
    from model.decoding.mixing import learn_mixing
    from model.recipe.recipe import AugmentationConfig

    recipe, tokenizer = run.recipe, run.require_tokenizer()
    no_masks = AugmentationConfig(time_masks=0, frequency_masks=0)
    training_set = TrainingSet(load_corpus(recipe), recipe.data, no_masks, tokenizer)

    def load_batches(data_pass: int) -> Iterator[Batch]:
        for batch in training_set.plan_pass(data_pass):
            yield from training_set.load_share(batch, 0, 1, recipe.optimiser.accumulate, draw="")

    return learn_mixing(run.model, load_batches, per_token, epochs)
