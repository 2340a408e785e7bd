"""What the commands share: their arguments, the form of their examples, and the ledger that an argument names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="the study file", show_default=False)]
AnyStudy = Annotated[
    Path, typer.Argument(metavar="STUDY", help="a study file, or the folder of a study", show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option(help="the head of a running Ray cluster, HOST:PORT; without it Ray is started on this machine"),
]
Trials = Annotated[int | None, typer.Option(min=0, help="sampled trials in all, instead of the file's")]


def example(*commands: str) -> str:
    """The end of a command's help: command lines to copy, a paragraph each, so that the help keeps them apart."""
    return "\n\n".join(["[bold]Example[/bold]", *(f"$ {command}" for command in commands)])


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
