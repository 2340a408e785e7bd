"""The command on single trials of a study."""

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
