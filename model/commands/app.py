"""The commands as a typer app. What takes seconds to import is imported inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from model.commands.evaluate import evaluate
from model.commands.import_checkpoint import import_checkpoint
from model.commands.lm import lm
from model.commands.mix import mix
from model.commands.train import train
from model.commands.transcribe import SETTINGS, transcribe
from model.errors import NonFiniteLossError, OutOfMemoryError, SplitFurtherError, StalledError, UserError

PANEL = "Single recipes"
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {  # with an example for their help
    "import": (import_checkpoint, "import downloads/decred-base --corpus corpora/demo --out recipes/base.yaml"),
    "train": (train, "train best-recipe.yaml --out runs/best"),
    "mix": (mix, "mix runs/best --per-token"),
    "lm": (lm, "lm runs/best --text sentences.txt --order 5 --out lm.safetensors"),
    "evaluate": (evaluate, "evaluate runs/best --beam 4 --ctc-weight 0.3"),
    "transcribe": (transcribe, "transcribe runs/best talk.mp3 --output-format srt --max-line-width 42"),
}
CONTEXT_SETTINGS = {"transcribe": SETTINGS}


def make_app(program: str) -> typer.Typer:
    """The commands of single recipes; each help ends with an example that begins with `program`."""
    app = typer.Typer(
        help="Train, score and mix single recipes, transcribe recordings, import published checkpoints; without Ray.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, (command, example) in COMMANDS.items():
        epilog = f"[bold]Example[/bold]\n\n$ {program} {example}"
        app.command(name, rich_help_panel=PANEL, epilog=epilog, context_settings=CONTEXT_SETTINGS.get(name))(command)
    return app


def main() -> None:
    """Run `python -m model`. Exit code 2 and one line when the input is wrong, 1 when a training broke, 130 after
    Ctrl-C."""
    program = "python -m model"
    try:
        sys.exit(make_app(program)(prog_name=program, standalone_mode=False))
    except UserError as error:
        sys.exit(_print_error(error, 2))
    except typer.TyperException as error:
        sys.exit(_print_usage_error(error))
    except (NonFiniteLossError, OutOfMemoryError, SplitFurtherError, StalledError) as error:
        sys.exit(_print_error(error, 1))
    except KeyboardInterrupt:
        sys.exit(130)


def _print_usage_error(error: typer.TyperException) -> int:
    """One line for a mistyped command, as for any wrong input; the help where no command was given."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return 2
    message = getattr(error, "format_message", error.__str__)()
    return _print_error(UserError(" ".join(message.split()).removesuffix(".")), 2)


def _print_error(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
