"""`train`: one recipe on this machine, without Ray: the debugger of every trial."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.commands.formatting import format_epoch
from model.commands.termination import stop_on_sigterm
from model.errors import SplitFurtherError, UserError

if TYPE_CHECKING:
    from model.recipe.recipe import Recipe

METRICS_FILE = "metrics.jsonl"


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="a recipe file", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/alone"),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="processes that share each batch; by default one for each GPU", show_default=False),
    ] = None,
) -> None:
    """Train one recipe on this machine, without Ray; resumes from the folder's last checkpoint.

    Every epoch is printed, and appended to metrics.jsonl in the folder. A GPU that CUDA_VISIBLE_DEVICES leaves out is
    not used; torchrun may start the processes instead. After SIGTERM a checkpoint is written at once, within the
    epoch, and the exit code is 143.
    """
    from model.recipe.files import read_recipe
    from model.runtime.rank import is_rank
    from model.runtime.worker_group import choose_count
    from model.training.prepare import prepare

    if is_rank():
        _train_as_rank(recipe, out, workers)
        return
    count = choose_count(workers)
    prepared = prepare(read_recipe(recipe))
    _print_start(prepared, out)
    if count == 1:
        train_prepared(prepared, out)
    else:
        _train_in_group(prepared, out, count)


def train_prepared(recipe: Recipe, out: Path) -> None:
    """Train a prepared recipe in this process, which may be a rank of a group; rank 0 prints and writes metrics."""
    from model.runtime.distributed import current_context
    from model.training.advice import advise
    from model.training.loop import train as train_recipe

    losses: dict[int, float] = {}
    wer: dict[int, float] = {}
    is_first = current_context().rank == 0

    def report(metrics: dict[str, float]) -> None:
        if not is_first:
            return
        out.mkdir(parents=True, exist_ok=True)
        with (out / METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")
        typer.echo(format_epoch(metrics, recipe.training.epochs))
        if "train/loss_ctc" in metrics:
            epoch = int(metrics["epoch"])
            losses[epoch], wer[epoch] = metrics["train/loss_ctc"], metrics["dev/ctc_wer"]
            if advice := advise(losses, wer):
                typer.echo(f"warning: {advice}", err=True)

    with stop_on_sigterm() as stop:
        train_recipe(recipe, out, report, stop=stop)


def _print_start(recipe: Recipe, out: Path) -> None:
    typer.echo(f"recipe {recipe.name} {recipe.hash} on {recipe.data.corpus}, in {out}")


def _train_in_group(recipe: Recipe, out: Path, count: int) -> None:
    """Train in so many processes; a lost one is an error of one line and exit code 1."""
    from model.runtime.worker_group import WorkerError, run_group
    from model.strict import to_yaml, write_atomically

    with tempfile.TemporaryDirectory(prefix="decred-recipe-") as temporary:
        file = Path(temporary, "recipe.yaml")
        write_atomically(file, to_yaml(recipe))
        while True:  # ends: a batch is split until each part is one utterance
            try:
                code = run_group("model.commands.worker", [str(file), str(out.absolute())], count)
                break
            except SplitFurtherError as error:
                typer.echo(f"warning: {error}; it is started again now", err=True)
            except WorkerError as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(1) from None
    if code:
        raise typer.Exit(code)


def _train_as_rank(file: Path, out: Path, workers: int | None) -> None:
    """Train as a process that torchrun started: rank 0 prepares the recipe for all."""
    from model.recipe.files import read_recipe
    from model.runtime.distributed import current_context
    from model.runtime.rank import join_group
    from model.training.prepare import prepare

    if workers is not None:
        raise UserError(
            f"--workers is {workers}, but RANK and WORLD_SIZE are set, so that torchrun has chosen how many there are; "
            "leave one of them out"
        )
    with join_group():
        found: Recipe | UserError | None = None
        if current_context().rank == 0:
            try:
                found = prepare(read_recipe(file))
                _print_start(found, out)
            except UserError as error:
                found = error
        found = current_context().from_rank_0(found)
        if isinstance(found, UserError):
            raise found
        assert found is not None
        train_prepared(found, out)
