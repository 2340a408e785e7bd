"""The commands on single trials of a study, and on nodes that it excludes."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from model.errors import UserError
from study.cli.arguments import AnyStudy, On, example
from study.cli.giving import By, Wait, give

app = typer.Typer()
STUDIES = "Studies"


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study trial search_spaces/demo.yaml 3 retry",
        "decred-study trial demo 3 stop --on lab",
        "decred-study trial studies/demo 3 note 'the learning rate is too high'",
    ),
)
def trial(
    study: AnyStudy,
    number: Annotated[int, typer.Argument(metavar="N", min=0, help="the trial's number", show_default=False)],
    action: Annotated[
        Literal["stop", "pause", "resume", "retry", "promote", "note"],
        typer.Argument(metavar="ACTION", help="stop, pause, resume, retry, promote or note", show_default=False),
    ],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="of a note", show_default=False)] = None,
    on: On = None,
    wait: Wait = True,
    by: By = None,
) -> None:
    """Steer a trial, while its study runs or between two runs.

    stop ends it with its figures so far; pause has it leave its workers with its checkpoint, until resume; both take
    effect at its next report. retry tries one again that failed, from its last checkpoint. promote continues one that
    waits at a rung, and no rule stops it any more. note keeps a text with it.
    """
    if (text is not None) != (action == "note"):
        raise UserError('trial N note takes a TEXT, as in note "loss rises", and the other actions take none')
    words = ["trial", "STUDY", str(number), action, *([text] if text is not None else [])]
    give(study, action, number, text, on=on, wait=wait, by=by, words=words)


@app.command(rich_help_panel=STUDIES, epilog=example("decred-study node demo node3 use --on lab"))
def node(
    study: AnyStudy,
    name: Annotated[str, typer.Argument(metavar="NODE", help="its host name or address", show_default=False)],
    action: Annotated[
        Literal["use"], typer.Argument(metavar="ACTION", help="use: place trials on it again", show_default=False)
    ],
    on: On = None,
    wait: Wait = True,
    by: By = None,
) -> None:
    """Have a node that was excluded, and that has been corrected, used again.

    `status` shows the nodes that are excluded; without this command they are for a day.
    """
    give(study, action, None, name, on=on, wait=wait, by=by, words=["node", "STUDY", name, action])
