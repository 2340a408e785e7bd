"""The commands on clusters: submit."""

from __future__ import annotations

from typing import Annotated

import typer

from study.cli.arguments import StudyPath, Trials, example

app = typer.Typer()
CLUSTER = "Clusters"


@app.command(
    rich_help_panel=CLUSTER,
    epilog=example("decred-study submit search_spaces/demo.yaml --address http://127.0.0.1:8265"),
)
def submit(
    study: StudyPath,
    address: Annotated[str, typer.Option(help="the cluster's dashboard: http://HOST:PORT, or HOST:PORT")],
    trials: Trials = None,
) -> None:
    """Run a study as a Ray Job on a cluster; the study file and these packages are uploaded.

    Corpus and study folder are looked up on the cluster under the absolute paths that they have here. A cluster that
    requires a token is sent the one in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in
    ~/.ray/auth_token.
    """
    from study.execution.submission import make_follow_command, submit_study

    job = submit_study(study, address, trials)
    typer.echo(f"job {job.id}; follow it with: {make_follow_command(job)}")
