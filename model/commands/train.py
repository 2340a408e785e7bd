"""`train`: one recipe in this process, without Ray: the debugger of every trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from model.commands.formatting import format_epoch

METRICS_FILE = "metrics.jsonl"


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="a recipe file", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/alone"),
) -> None:
    """Train one recipe in this process, without Ray; resumes from the folder's last checkpoint.

    Every epoch is printed, and appended to metrics.jsonl in the folder.
    """
    from model.recipe.files import read_recipe
    from model.training.advice import advise
    from model.training.loop import train as train_recipe
    from model.training.prepare import prepare

    prepared = prepare(read_recipe(recipe))
    typer.echo(f"recipe {prepared.name} {prepared.hash} on {prepared.data.corpus}, in {out}")

    losses: dict[int, float] = {}
    wer: dict[int, float] = {}

    def report(metrics: dict[str, float]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with (out / METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")
        typer.echo(format_epoch(metrics, prepared.training.epochs))
        if "train/loss_ctc" in metrics:
            epoch = int(metrics["epoch"])
            losses[epoch], wer[epoch] = metrics["train/loss_ctc"], metrics["dev/ctc_wer"]
            if advice := advise(losses, wer):
                typer.echo(f"warning: {advice}", err=True)

    train_recipe(prepared, out, report)
