"""The commands on single trials of a study, and on nodes that it excludes."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from study.cli.arguments import AnyStudy, On, example, open_ledger, run_where_it_is

app = typer.Typer()
STUDIES = "Studies"


@app.command(
    rich_help_panel=STUDIES,
    epilog=example("decred-study trial search_spaces/demo.yaml 3 retry", "decred-study trial demo 3 retry --on lab"),
)
def trial(
    study: AnyStudy,
    number: Annotated[int, typer.Argument(metavar="N", min=0, help="the trial's number", show_default=False)],
    action: Annotated[
        Literal["retry"], typer.Argument(metavar="ACTION", help="retry: try it again", show_default=False)
    ],
    on: On = None,
) -> None:
    """Have a trial that failed, or that could not be trained, tried again when the study is continued.

    It continues from its last checkpoint. The study must not run meanwhile.
    """
    from study.execution.reopen import reopen_trial

    if found := run_where_it_is(on, study, ["trial", "STUDY", str(number), action]):
        record = reopen_trial(open_ledger(found), number, typer.echo)
        epoch = f"after epoch {record.epoch}" if record.epoch else "from its start"
        command = f"resume {study} --on {on}" if on is not None else f"run {study}"
        typer.echo(f"trial {number:04d} continues {epoch} with: decred-study {command}")


@app.command(rich_help_panel=STUDIES, epilog=example("decred-study node demo node3 use --on lab"))
def node(
    study: AnyStudy,
    name: Annotated[str, typer.Argument(metavar="NODE", help="its host name or address", show_default=False)],
    action: Annotated[
        Literal["use"], typer.Argument(metavar="ACTION", help="use: place trials on it again", show_default=False)
    ],
    on: On = None,
) -> None:
    """Have a node that was excluded, and that has been corrected, used again when the study is continued.

    `status` shows the nodes that are excluded; without this command they are for a day. The study must not run
    meanwhile.
    """
    from study.execution.reopen import use_node

    if found := run_where_it_is(on, study, ["node", "STUDY", name, action]):
        used = use_node(open_ledger(found), name, typer.echo)
        command = f"resume {study} --on {on}" if on is not None else f"run {study}"
        typer.echo(f"node {used} is used again with: decred-study {command}")
