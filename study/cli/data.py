"""The commands on files: the schema of study files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study.cli.arguments import example

app = typer.Typer()
DATA = "Data and files"


@app.command(rich_help_panel=DATA, epilog=example("decred-study schema -o study.schema.json"))
def schema(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="a file; without it, standard output")] = None,
) -> None:
    """Write the JSON schema of study files, so that editors complete and check them."""
    from model.strict import write_atomically
    from study.config.study_file import make_json_schema

    if out is None:
        typer.echo(make_json_schema(), nl=False)
    else:
        write_atomically(out, make_json_schema())
        typer.echo(f"{out} written")
