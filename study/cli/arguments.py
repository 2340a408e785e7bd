"""What the commands share: their arguments, the form of their examples, and the ledger that an argument names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger
    from study.remote.requests import RequestResult

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="the study file", show_default=False)]
AnyStudy = Annotated[
    Path, typer.Argument(metavar="STUDY", help="a study file, or the folder of a study", show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option(help="the head of a running Ray cluster, HOST:PORT; without it Ray is started on this machine"),
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="the name of a study", show_default=False)]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="PROFILE", help="the cluster that this profile describes: its name or file"),
]
DashboardAddress = Annotated[
    str | None, typer.Option(help="the cluster with this dashboard, instead of a profile: http://HOST:PORT")
]
Trials = Annotated[int | None, typer.Option(min=0, help="sampled trials in all, instead of the file's")]


def example(*commands: str) -> str:
    """The end of a command's help: command lines to copy, a paragraph each, so that the help keeps them apart."""
    return "\n\n".join(["[bold]Example[/bold]", *(f"$ {command}" for command in commands)])


def run_where_it_is(on: str | None, study: Path, words: Sequence[str], out: Path | None = None) -> Path | None:
    """Have a command of this program run on the cluster of a profile; None where it did.

    Without a profile the study is here: then its path comes back, and also where the cluster's storage is mounted. In
    the words STUDY is the study, OUT the file or folder that is written, which comes back to `out`.
    """
    if on is None:
        return study
    from study.remote.place import open_place, read_place
    from study.remote.studies import run_there

    place, name = read_place(on, None), read_name(study)
    if (folder := find_mounted(on, study)) is not None:
        return folder
    with open_place(place) as jobs:
        print_answer(run_there(jobs, place, name, words, out))
    return None


def find_mounted(on: str | None, study: Path) -> Path | None:
    """The study, or its folder where a profile's storage is mounted here; None where it is not."""
    if on is None:
        return study
    from study.remote.place import read_place

    return read_place(on, None).mounted_folder(read_name(study))


def read_name(study: Path) -> str:
    """The name of a study that is given by its file or by its name."""
    from study.config.study_file import read_study

    return read_study(study).name if study.suffix in (".yaml", ".yml") else str(study)


def print_answer(answer: RequestResult) -> None:
    """Print what a command printed on the cluster, and end with its exit code where that is not 0."""
    typer.echo(answer.out, nl=False)
    typer.echo(answer.errors, nl=False, err=True)
    if answer.code:
        raise typer.Exit(answer.code)


def open_ledger(study: Path) -> Ledger:
    """The ledger of a study file or in a study's folder; a file also gives the tracking URI, which may have changed."""
    from study.config.places import study_folder
    from study.config.study_file import read_study
    from study.ledger.ledger import Ledger

    if study.is_dir():
        return Ledger.open(study)
    study_file = read_study(study)
    ledger = Ledger.open(study_folder(study_file))
    ledger.study = ledger.study.model_copy(update={"tracking": study_file.tracking})
    return ledger
