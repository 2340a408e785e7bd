"""The command line `decred-study`: the app, its commands' order, and the exit codes.

Whatever takes seconds to import is imported inside the commands, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import atexit
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from model.commands.app import make_app
from model.errors import NonFiniteLossError, OutOfMemoryError, SplitFurtherError, StalledError, UserError
from study.cli import cluster, compare, data, errors, export, prepare, replay, report, steering, studies, trial
from study.cli.arguments import example
from study.execution.signals import ignore_stop_signals
from study.workers.failure import is_place_unusable

DISTRIBUTION = "decred-study"

app = typer.Typer(
    name=DISTRIBUTION,
    help="Finds, proves and exports the best DeCRED configuration for your speech data.",
    epilog=example("decred-study prepare demo", "decred-study run search_spaces/demo.yaml"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if not requested:
        return
    try:
        typer.echo(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
    except PackageNotFoundError:  # a checkout or an upload that is run with `python -m study`
        typer.echo(f"{DISTRIBUTION}, not installed as a package")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# Without a name they are commands of this app; the help lists them in this order.
for commands in (
    studies.app,
    report.app,
    errors.app,
    export.app,
    trial.app,
    steering.app,
    compare.app,
    replay.app,
    cluster.app,
    make_app(DISTRIBUTION),
    data.app,
):
    app.add_typer(commands)
app.add_typer(cluster.machines, name="cluster", rich_help_panel=cluster.CLUSTER)
app.add_typer(prepare.app, name="prepare", rich_help_panel=data.DATA)


def main() -> None:
    """Exit code 2 and one line when the input is wrong, 1 when a training failed, 130 after Ctrl-C."""
    code = _call()
    atexit.register(ignore_stop_signals)
    sys.exit(code)


def _call() -> int:
    try:
        return int(app(prog_name=DISTRIBUTION, standalone_mode=False) or 0)
    except UserError as error:
        return _report(error, 2)
    except typer.TyperException as error:
        return _report_usage(error)
    except (NonFiniteLossError, OutOfMemoryError, SplitFurtherError, StalledError) as error:
        return _report(error, 1)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not is_place_unusable(error):
            raise
        where = error.filename or "a file or its disk"
        advice = "see that it answers and is yours to read and write, then give the command again"
        return _report(UserError(f"{where}: cannot be used ({error.strerror}); {advice}"), 2)


def _report_usage(error: typer.TyperException) -> int:
    """A command line that cannot be parsed: one line as for any wrong input; the help where a command is missing."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return 2
    message = getattr(error, "format_message", error.__str__)()
    return _report(UserError(" ".join(message.split()).removesuffix(".")), 2)


def _report(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
