"""The commands on files: the schemas of study files and of clusters' profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from study.cli.arguments import example

app = typer.Typer()
DATA = "Data and files"


@app.command(
    rich_help_panel=DATA,
    epilog=example(
        "decred-study schema -o study.schema.json", "decred-study schema --of profile -o profile.schema.json"
    ),
)
def schema(
    of: Annotated[Literal["study", "profile"], typer.Option(help="study files, or profiles of clusters")] = "study",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="a file; without it, standard output")] = None,
) -> None:
    """Write the JSON schema of study files or of profiles, so that editors complete and check them."""
    from cluster.kinds import make_profile_schema
    from model.strict import write_atomically
    from study.config.study_file import make_json_schema

    content = make_json_schema() if of == "study" else make_profile_schema()
    if out is None:
        typer.echo(content, nl=False)
    else:
        write_atomically(out, content)
        typer.echo(f"{out} written")
