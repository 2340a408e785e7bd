"""How the commands that steer a study reach it: here, or through the jobs of its cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from study.cli.arguments import run_where_it_is

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="wait for the answer of the driver that runs the study")]
By = Annotated[str | None, typer.Option("--by", hidden=True)]  # who gives a command that runs on a cluster
_LATER = " when the study is continued"


def give(
    study: Path,
    command: str,
    number: int | None = None,
    value: str | None = None,
    *,
    on: str | None,
    wait: bool,
    by: str | None,
    words: Sequence[str],
) -> None:
    """Give a study a command and print what came of it; `words` are the command line that does so on its cluster."""
    from study.execution.steering import WAIT_SECONDS, give_command
    from study.ledger.commands import describe_user

    there = [*words, *([] if wait else ["--no-wait"]), "--by", by or describe_user()]
    if found := run_where_it_is(on, study, there):
        line = give_command(find_folder(found), command, number, value, WAIT_SECONDS if wait else 0.0, by)
        if _LATER in line:
            continued = f"resume {study} --on {on}" if on is not None else f"run {study}"
            line = line.replace(_LATER, "") + f" with: decred-study {continued}"
        typer.echo(line)


def find_folder(study: Path) -> Path:
    """The folder of a study that is given by it, or by its file."""
    from study.config.places import study_folder
    from study.config.study_file import read_study

    return study if study.is_dir() else study_folder(read_study(study))
