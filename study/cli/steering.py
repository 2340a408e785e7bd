"""The commands that steer a whole study while it runs: enqueue, pause, drain, set."""

from __future__ import annotations

from typing import Annotated

import typer

from study.cli.arguments import AnyStudy, On, example
from study.cli.giving import By, Wait, give

app = typer.Typer()
STUDIES = "Studies"


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study enqueue search_spaces/demo.yaml my-recipe.yaml",
        "decred-study enqueue search_spaces/demo.yaml ctc_weight=0.35 optimiser.learning_rate=1e-3",
        "decred-study enqueue search_spaces/demo.yaml --from 3 training.epochs=+10",
    ),
)
def enqueue(
    study: AnyStudy,
    recipe: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE.yaml|KEY=VALUE...", help="a recipe, or values on the base recipe"),
    ] = None,
    source: Annotated[
        int | None, typer.Option("--from", min=0, metavar="N", help="start from the weights that this trial chose")
    ] = None,
    on: On = None,
    wait: Wait = True,
    by: By = None,
    content: Annotated[str | None, typer.Option("--content", hidden=True)] = None,
) -> None:
    """Have a study try a recipe next, in addition to the trials of its search.

    It may lie outside the search space; then no sampler learns from it. With --from it is trial N's recipe, in a new
    training that starts from the weights which that trial chose: epochs, optimiser and the learning rate's schedule
    start from the beginning, so that training.epochs=+10 trains ten epochs more.
    """
    from study.execution.enqueuing import describe_recipe

    value = content or describe_recipe(recipe or [], source)
    words = ["enqueue", "STUDY", "--content", value]
    give(study, "enqueue", None, value, on=on, wait=wait, by=by, words=words)


@app.command(rich_help_panel=STUDIES, epilog=example("decred-study pause demo --on lab"))
def pause(study: AnyStudy, on: On = None, wait: Wait = True, by: By = None) -> None:
    """Start no more trials, and have those that run pause at their next report, until `resume`.

    The study's process goes on and waits; its machines are free meanwhile.
    """
    give(study, "pause", on=on, wait=wait, by=by, words=["pause", "STUDY"])


@app.command(rich_help_panel=STUDIES, epilog=example("decred-study drain search_spaces/demo.yaml"))
def drain(study: AnyStudy, on: On = None, wait: Wait = True, by: By = None) -> None:
    """Start no more trials, and end the session once those that run have ended. It can be continued as any other."""
    give(study, "drain", on=on, wait=wait, by=by, words=["drain", "STUDY"])


@app.command(
    "set",
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study set search_spaces/demo.yaml trials=40",
        "decred-study set demo concurrent_trials=2 --on lab",
    ),
)
def set_(
    study: AnyStudy,
    setting: Annotated[
        str, typer.Argument(metavar="NAME=VALUE", help="trials=N, or concurrent_trials=N or none", show_default=False)
    ],
    on: On = None,
    wait: Wait = True,
    by: By = None,
) -> None:
    """Change the number of sampled trials of a study, or how many run at the same time, also while it runs.

    Later sessions keep it, until the study file or --trials names another number than the one that was replaced.
    """
    give(study, "set", None, setting, on=on, wait=wait, by=by, words=["set", "STUDY", setting])
