"""`train`: one recipe on this machine, without Ray: the debugger of every trial."""

from __future__ import annotations

import json
import tempfile
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.commands.formatting import format_epoch
from model.commands.termination import stop_on_sigterm
from model.errors import ReadersLostError, SplitFurtherError, StalledError, UserError
from model.runtime.hang_watch import STALL_SECONDS, Work, end_hanging

if TYPE_CHECKING:
    from model.recipe.recipe import Recipe

METRICS_FILE = "metrics.jsonl"
SETTING = "--stall-seconds"
START_SECONDS = 600.0  # for the first sign of progress: libraries are imported, and memory is tried


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="a recipe file", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/alone"),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="processes that share each batch; by default one for each GPU", show_default=False),
    ] = None,
    stall_seconds: Annotated[
        float, typer.Option(min=0.0, help="seconds without progress after which training ends; 0 for no limit")
    ] = STALL_SECONDS,
) -> None:
    """Train one recipe on this machine, without Ray; resumes from the folder's last checkpoint.

    Every epoch is printed, and appended to metrics.jsonl in the folder. A GPU that CUDA_VISIBLE_DEVICES leaves out is
    not used; torchrun may start the processes instead. After SIGTERM a checkpoint is written at once, within the
    epoch, and the exit code is 143. A training that hangs ends with exit code 1 and a line that says where, and each
    process' stacks are kept in the folder.
    """
    try:
        _train(recipe, out, workers, stall_seconds)
    except ReadersLostError as error:
        advice = "then start the same command again, which continues from the last checkpoint"
        typer.echo(f"error: {error}, {advice}", err=True)
        raise typer.Exit(1) from None


def _train(recipe: Path, out: Path, workers: int | None, stall_seconds: float) -> None:
    from model.runtime.rank import is_rank
    from model.runtime.worker_group import choose_count

    if is_rank():
        _train_as_rank(recipe, out, workers, stall_seconds)
        return
    count = choose_count(workers)
    prepared = _prepare(recipe, stall_seconds)
    _print_start(prepared, out)
    if count == 1:
        train_prepared(prepared, out, stall_seconds)
    else:
        _train_in_group(prepared, out, count, stall_seconds)


def _prepare(file: Path, stall_seconds: float) -> Recipe:
    from model.recipe.files import read_recipe
    from model.training.prepare import prepare

    with end_hanging(Work("the preparation of tokenizer and features", SETTING), stall_seconds or None):
        return prepare(read_recipe(file))


def train_prepared(recipe: Recipe, out: Path, stall_seconds: float = 0.0) -> None:
    """Train a prepared recipe in this process, which may be a rank of a group; rank 0 prints and writes metrics.

    Raises a StalledError where it makes no progress for `stall_seconds`, unless these are 0.
    """
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

    with _end_hanging(out, stall_seconds), stop_on_sigterm() as stop:
        train_recipe(recipe, out, report, stop=stop)


def _end_hanging(out: Path, seconds: float) -> AbstractContextManager[None]:
    """End the training in the block where it hangs; a rank ends at once, since the others wait for it."""
    from model.runtime.distributed import current_context
    from model.runtime.rank import leave_stalled

    # While a rank waits for the others it may use a whole core, so that the use of the CPU says nothing.
    context = current_context()
    leave = partial(leave_stalled, rank=context.rank) if context.world_size > 1 else None
    work = Work(
        "training",
        SETTING,
        computes=False,
        first_seconds=START_SECONDS,
        folder=out,
        rank=context.rank,
        error=StalledError,
        code=1,
        leave=leave,
    )
    return end_hanging(work, seconds or None)


def _print_start(recipe: Recipe, out: Path) -> None:
    typer.echo(f"recipe {recipe.name} {recipe.hash} on {recipe.data.corpus}, in {out}")


def _train_in_group(recipe: Recipe, out: Path, count: int, stall_seconds: float = STALL_SECONDS) -> None:
    """Train in so many processes; a lost one is an error of one line and exit code 1."""
    from model.runtime.worker_group import WorkerError, run_group
    from model.strict import to_yaml, write_atomically

    with tempfile.TemporaryDirectory(prefix="decred-recipe-") as temporary:
        file = Path(temporary, "recipe.yaml")
        write_atomically(file, to_yaml(recipe))
        while True:  # ends: a batch is split until each part is one utterance
            try:
                arguments = [str(file), str(out.absolute()), str(stall_seconds)]
                code = run_group("model.commands.worker", arguments, count, out)
                break
            except SplitFurtherError as error:
                typer.echo(f"warning: {error}; it is started again now", err=True)
            except WorkerError as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(1) from None
    if code:
        raise typer.Exit(code)


def _train_as_rank(file: Path, out: Path, workers: int | None, stall_seconds: float) -> None:
    """Train as a process that torchrun started: rank 0 prepares the recipe for all, which may take hours."""
    from model.runtime.distributed import current_context
    from model.runtime.first_rank import go_first, wait_for_first
    from model.runtime.rank import join_group

    if workers is not None:
        raise UserError(
            f"--workers is {workers}, but RANK and WORLD_SIZE are set, so that torchrun has chosen how many there are; "
            "leave one of them out"
        )
    with join_group() as store:
        found: Recipe | UserError | None = None
        rank = current_context().rank
        if rank == 0:
            with go_first(store):
                try:
                    found = _prepare(file, stall_seconds)
                    _print_start(found, out)
                except UserError as error:
                    found = error
        else:
            waiting = f"worker {rank}, which waits for worker 0 to prepare tokenizer and features,"
            with end_hanging(Work(waiting, SETTING, computes=False), stall_seconds or None):
                wait_for_first(store)
        found = current_context().from_rank_0(found)
        if isinstance(found, UserError):
            raise found
        assert found is not None
        train_prepared(found, out, stall_seconds)
