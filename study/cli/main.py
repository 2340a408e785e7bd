"""The command line: `decred-study`. What takes seconds to import is imported inside the commands.

The commands on studies are here, those on single recipes in cli_recipes, those on corpora and files in cli_data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model.errors import NonFiniteLossError, OutOfMemoryError, UserError
from study.cli import data as cli_data
from study.cli import recipes as cli_recipes

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger

app = typer.Typer(
    name="decred-study",
    help="Finds, proves and exports the best DeCRED configuration for your speech data.",
    epilog="Start with: decred-study prepare demo, then decred-study run search_spaces/demo.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STUDY = "Studies"

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="the study file", show_default=False)]
AnyStudy = Annotated[
    Path, typer.Argument(metavar="STUDY", help="a study file, or the folder of a study", show_default=False)
]
Address = Annotated[str | None, typer.Option(help="a running Ray cluster; without it Ray is started here")]


@app.command(rich_help_panel=STUDY)
def run(
    study: StudyPath,
    trials: Annotated[int | None, typer.Option(min=0, help="sampled trials in all, instead of the file's")] = None,
    address: Address = None,
) -> None:
    """Run a study to its end, or go on with it.

    Trials that ended stay as they are, interrupted ones go on from their last checkpoint. Ctrl-C stops cleanly.
    """
    from study.runner import run_study

    raise typer.Exit(run_study(study, trials, address))


@app.command(rich_help_panel=STUDY)
def status(study: AnyStudy) -> None:
    """Show every trial of a study, running or ended."""
    from study.display.board import make_console
    from study.display.table import make_table
    from study.evidence.rank_correlation import rung_lines
    from study.ledger.lease import holder_of
    from study.ledger.records import TrialState

    ledger = _ledger(study)
    console, records = make_console(), ledger.trials.values()
    console.print(make_table(records, ledger.study))
    for line in rung_lines(records, ledger.study):
        console.print(line, soft_wrap=True, highlight=False)
    if any(record.state is TrialState.RUNNING for record in records) and holder_of(ledger.folder) is None:
        line = f"nobody runs this study now, its process died; go on with: decred-study run {study}"
        console.print(line, soft_wrap=True, highlight=False)


@app.command(rich_help_panel=STUDY)
def dashboard(
    study: AnyStudy,
    port: Annotated[int, typer.Option(help="where MLflow's page listens")] = 5000,
    host: Annotated[str, typer.Option(help="who may open it; 0.0.0.0 is everybody")] = "127.0.0.1",
) -> None:
    """Open MLflow's page on the study's runs; Ctrl-C ends it."""
    import os

    from study.tracking.mlflow_store import store_uri, ui_command, ui_environment

    ledger = _ledger(study)
    command = ui_command(store_uri(ledger.study.tracking, ledger.folder), host, port)
    typer.echo(f"MLflow on http://{host}:{port}; Ctrl-C ends it")
    sys.stdout.flush()
    os.execve(command[0], command, ui_environment())  # this process becomes the server, so that ending it ends the page


@app.command(rich_help_panel=STUDY)
def track(
    study: AnyStudy,
    flush: Annotated[bool, typer.Option("--flush", help="send the runs that are not up to date")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="fill an empty MLflow, or compare every run point by point")
    ] = False,
) -> None:
    """Bring the runs in MLflow up to date, or fill an empty MLflow from the ledger.

    Without an option, only count the runs that are not up to date. What MLflow has already is not sent twice.
    """
    from study.tracking import flush as tracking
    from study.tracking.mlflow_store import store_uri

    if flush and rebuild:
        raise UserError(
            "track was given --flush and --rebuild, but takes one of them; --rebuild does what --flush does"
        )
    ledger = _ledger(study)
    uri = store_uri(ledger.study.tracking, ledger.folder)
    if flush or rebuild:
        sent = tracking.flush(ledger, verify=rebuild)
        typer.echo(f"{sent} {'run' if sent == 1 else 'runs'} sent to MLflow at {uri}")
    else:
        line = tracking.outdated_line(tracking.count_outdated(ledger), uri, study)
        typer.echo(line or f"all runs are up to date in MLflow at {uri}")


@app.command(rich_help_panel=STUDY)
def export(
    study: AnyStudy,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="what to write; by default best-recipe.yaml or best-model")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="this trial instead of the best one")] = None,
    form: Annotated[
        Literal["recipe", "published"],
        typer.Option("--format", help="the recipe alone, or the trained model in the published layout"),
    ] = "recipe",
) -> None:
    """Write the best recipe of a study, ready for `decred-study train`, or the best model.

    With --format published, STUDY may also be the folder of a single run.
    """
    if form == "published":
        _export_model(study, out or Path("best-model"), trial)
        return
    from model.strict import to_yaml, write_atomically
    from study.ledger.best import export_recipe

    out = out or Path("best-recipe.yaml")
    recipe, number = export_recipe(_ledger(study), trial)
    write_atomically(out, to_yaml(recipe))
    typer.echo(f"trial {number:04d}, recipe {recipe.hash}, written to {out}")


@app.command(rich_help_panel=STUDY)
def fork(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="a study file, or the folder of a study", show_default=False)
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW.yaml", help="a study file with another name", show_default=False)],
    address: Address = None,
) -> None:
    """Start a new study with the trials of another one that fit it, and say which do not, and why.

    The corpus has to be the same; space, objective and budget may be others. The other study stays as it is.
    """
    from study.execution.fork import fork_study

    fork_study(_ledger(old), new, typer.echo, address)


@app.command(rich_help_panel=STUDY)
def validate(study: StudyPath) -> None:
    """Check a study file, its corpus, folder, tracking and database, and say what it would run; nothing starts."""
    from study.config.study_file import read_study

    given = read_study(study)
    from study.execution.checks import check  # takes seconds to import, so the file's own faults are told first

    checked, workers, search = check(given), given.workers, given.search
    quantities = [name for name in ("ctc_weight", "auxiliary") if getattr(search, name) is not None]
    typer.echo(
        f"{study}: {checked.proposals} trials ({len(given.baselines)} baselines first), {checked.at_once} at a time, "
        f"{workers.count} workers with {workers.cpus:g} CPUs and {workers.gpus:g} GPUs each; "
        f"searches {', '.join([*quantities, *search.recipe]) or 'nothing'}"
    )


@app.command(rich_help_panel=STUDY)
def submit(
    study: StudyPath,
    address: Annotated[str, typer.Option(help="the cluster's dashboard, for example http://head:8265")],
    trials: Annotated[int | None, typer.Option(min=0, help="sampled trials in all, instead of the file's")] = None,
) -> None:
    """Run a study as a Ray Job on a cluster; the study file and these packages are uploaded.

    Corpus and study folder are looked up on the cluster under the absolute paths that they have here.
    """
    from study.execution.submission import submit_study

    job = submit_study(study, address, trials)
    typer.echo(f"job {job}; follow it with: ray job logs {job} --address {address} --follow")


# Without a name they are commands beside the ones above; the help lists them in this order.
app.add_typer(cli_recipes.app)
app.add_typer(cli_data.app)


def main() -> None:
    """Exit code 2 and one line when the input is wrong, 1 when a training broke, 130 after Ctrl-C."""
    try:
        sys.exit(app(prog_name="decred-study", standalone_mode=False))
    except UserError as error:
        sys.exit(_error(error, 2))
    except typer.TyperException as error:
        sys.exit(_usage_error(error))
    except (NonFiniteLossError, OutOfMemoryError) as error:
        sys.exit(_error(error, 1))
    except KeyboardInterrupt:
        sys.exit(130)


def _usage_error(error: typer.TyperException) -> int:
    """What was typed is no command of ours: one line as for any wrong input, or the help where nothing was typed."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return 2
    message = getattr(error, "format_message", error.__str__)()
    return _error(UserError(" ".join(message.split()).removesuffix(".")), 2)


def _error(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _ledger(study: Path) -> Ledger:
    """The ledger of a study file, or in a folder. A file says where the runs are told, which may have changed."""
    from study.config.study_file import read_study, study_folder
    from study.ledger.ledger import Ledger

    if study.is_dir():
        return Ledger.open(study)
    given = read_study(study)
    ledger = Ledger.open(study_folder(given))
    ledger.study = ledger.study.model_copy(update={"tracking": given.tracking})
    return ledger


def _export_model(study: Path, out: Path, trial: int | None) -> None:
    from model.weights.exchange import export_published
    from study.ledger.best import export_recipe

    run = study
    if not (study / "checkpoints").is_dir():  # that is where a single run has its weights
        ledger = _ledger(study)
        run = ledger.trial_folder(export_recipe(ledger, trial)[1])
    typer.echo(f"{run}, recipe {export_published(run, out).hash}, written to {out} in the published layout")
