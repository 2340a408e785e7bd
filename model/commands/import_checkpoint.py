"""`import`: a published checkpoint as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    folder: Annotated[Path, typer.Argument(help="holds config.json and model.safetensors", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="the recipe file to write")] = Path("recipe.yaml"),
    corpus: Annotated[
        str, typer.Option(help="what to train on, as the recipe names it; a study names its own")
    ] = "corpora/demo",
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="the SentencePiece model it was trained with; without it pieces are trained on the corpus"),
    ] = None,
) -> None:
    """Import a published checkpoint, as a recipe whose training starts from its weights."""
    from model.weights.import_export import import_published

    recipe = import_published(folder, corpus, out, tokenizer)
    typer.echo(f"{out} starts from {recipe.init_from}; name it as a study's recipe.base, or train it")
