"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from study.cli.arguments import AnyStudy, On, example, open_ledger, run_where_it_is

app = typer.Typer()


@app.command(
    rich_help_panel="Studies",
    epilog=example(
        "decred-study report search_spaces/demo.yaml",
        "decred-study report studies/demo studies/demo-more -o beside.html",
        "decred-study report studies/demo --format latex -o demo.tex",
    ),
)
def report(
    study: AnyStudy,
    other: Annotated[
        Path | None,
        typer.Argument(metavar="[OTHER]", help="another study, to be shown beside the first", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="what to write; by default report.html, .md, .tex or .json")
    ] = None,
    form: Annotated[
        Literal["html", "markdown", "latex", "json"],
        typer.Option("--format", help="a page with charts, its texts and tables alone, or all its numbers"),
    ] = "html",
    on: On = None,
) -> None:
    """Write what a study has found as one file: verdict, charts, hours, what did not help, and how to reproduce it.

    The HTML page needs no network. A study that still runs has a report as well. Of two studies it shows both side by
    side, what their files differ in, and their common trials.
    """
    from study.report.content import make_report
    from study.report.writing import ENDINGS, render

    out = out or Path(f"report.{ENDINGS[form]}")
    if on is not None and other is not None:
        from model.errors import UserError

        raise UserError(f"report was given two studies and --on {on}, which takes one; fetch each with its own --on")
    found = run_where_it_is(on, study, ["report", "STUDY", "--format", form, "-o", "OUT"], out)
    if found is None:
        typer.echo(f"{out} written")
        return
    from model.strict import write_atomically

    reports = [make_report(open_ledger(one)) for one in (found, other) if one is not None]
    write_atomically(out, render(reports, form))
    typer.echo(f"{out} written")
