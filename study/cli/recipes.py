"""The commands on a single recipe: bring weights in, train, mix, evaluate; all without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
RECIPES = "Single recipes"


@app.command("import", rich_help_panel=RECIPES)
def import_(
    folder: Annotated[Path, typer.Argument(help="holds config.json and model.safetensors", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="the recipe file to write")] = Path("recipe.yaml"),
    corpus: Annotated[
        str, typer.Option(help="what to train on, as the recipe names it; a study names its own")
    ] = "corpora/demo",
    tokenizer: Annotated[
        Path | None, typer.Option(help="the SentencePiece model it was trained with; else pieces are trained anew")
    ] = None,
) -> None:
    """Bring a published checkpoint in, as a recipe that starts from its weights."""
    from model.weights.import_export import import_published

    recipe = import_published(folder, corpus, out, tokenizer)
    typer.echo(f"{out} starts from {recipe.init_from}; name it as a study's recipe.base, or train it")


@app.command(rich_help_panel=RECIPES)
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="a recipe file", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/alone"),
) -> None:
    """Train one recipe in this process, without Ray; goes on from the folder's last checkpoint."""
    from model.commands.alone import train_recipe

    train_recipe(recipe, out, typer.echo)


@app.command(rich_help_panel=RECIPES)
def mix(
    folder: Annotated[Path, typer.Argument(help="folder of a run, or of a trial", show_default=False)],
    per_token: Annotated[
        bool, typer.Option("--per-token", help="a weight for each token, not for each classifier alone")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training set")] = 3,
) -> None:
    """Learn to mix the classifiers of a run's last checkpoint, for `evaluate --mixed`."""
    from model.commands.alone import mix_checkpoint

    mix_checkpoint(folder, per_token, epochs, typer.echo)


@app.command(rich_help_panel=RECIPES)
def evaluate(
    folder: Annotated[Path, typer.Argument(help="folder of a run, or of a trial", show_default=False)],
    beam: Annotated[
        int | None, typer.Option(min=1, help="hypotheses kept an utterance, instead of the recipe's")
    ] = None,
    ctc_weight: Annotated[float | None, typer.Option(help="CTC's share in decoding, instead of the recipe's")] = None,
    corpus: Annotated[Path | None, typer.Option(help="another corpus to score on")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="decode with the weights that `mix` learned")] = False,
) -> None:
    """Score the last checkpoint of a run on its dev and test sets."""
    from model.commands.alone import evaluate_checkpoint, set_lines

    metrics = evaluate_checkpoint(folder, beam, ctc_weight, corpus, mixed)
    typer.echo("\n".join(set_lines(metrics)))
