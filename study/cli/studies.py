"""The commands on studies: run, status, notify, dashboard, track, decode, fork, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model.errors import UserError
from study.cli.arguments import (
    Address,
    AnyStudy,
    On,
    StudyPath,
    Trials,
    example,
    open_ledger,
    print_answer,
    run_where_it_is,
)
from study.cli.dashboard import dashboard
from study.cli.status import notify, status

app = typer.Typer()
STUDIES = "Studies"


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study run search_spaces/demo.yaml",
        "decred-study run search_spaces/demo.yaml --trials 20",
        "decred-study run studies/demo",
    ),
)
def run(
    study: AnyStudy,
    trials: Trials = None,
    address: Address = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where a person has paused the study")] = False,
) -> None:
    """Run a study to its end, or continue it; the folder of a study continues as its last session was.

    Trials that ended stay as they are, interrupted ones continue from their last checkpoint. Ctrl-C stops cleanly.
    """
    from study.runner import run_study

    raise typer.Exit(run_study(study, trials, address, resumes=resume))


app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study status search_spaces/demo.yaml",
        "decred-study status studies/demo --watch",
        "decred-study status studies/demo --sort dev/wer --top 10",
        "decred-study status studies/demo --json",
    ),
)(status)


app.command(rich_help_panel=STUDIES, epilog=example("decred-study notify search_spaces/demo.yaml"))(notify)


app.command(rich_help_panel=STUDIES, epilog=example("decred-study dashboard search_spaces/demo.yaml --port 5001"))(
    dashboard
)


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study track search_spaces/demo.yaml",
        "decred-study track search_spaces/demo.yaml --flush",
    ),
)
def track(
    study: AnyStudy,
    flush: Annotated[bool, typer.Option("--flush", help="send the runs that are not up to date")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="fill an empty MLflow, or compare every run point by point")
    ] = False,
    on: On = None,
) -> None:
    """Bring the runs in MLflow up to date, or fill an empty MLflow from the ledger.

    Without an option, only count the runs that are not up to date. What MLflow has already is not sent twice.
    """
    from study.config.tracking_uri import mask_uri
    from study.tracking import flush as tracking
    from study.tracking.mlflow_store import store_uri

    if flush and rebuild:
        raise UserError(
            "track was given --flush and --rebuild, but takes one of them; --rebuild does what --flush does"
        )
    words = ["track", "STUDY", *(["--flush"] if flush else []), *(["--rebuild"] if rebuild else [])]
    found = run_where_it_is(on, study, words)
    if found is None:
        return
    ledger = open_ledger(found)
    uri = store_uri(ledger.study.tracking, ledger.folder)
    if flush or rebuild:
        sent = tracking.flush(ledger, verify=rebuild)
        typer.echo(f"{sent} {'run' if sent == 1 else 'runs'} sent to MLflow at {mask_uri(uri)}")
    else:
        line = tracking.describe_outdated(tracking.count_outdated(ledger), uri, study)
        typer.echo(line or f"all runs are up to date in MLflow at {mask_uri(uri)}")


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study decode search_spaces/demo.yaml",
        "decred-study decode studies/demo --share 0.5",
    ),
)
def decode(
    study: AnyStudy,
    share: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.99, help="of each training's own seconds for the search, instead of the recipe's"),
    ] = None,
    on: On = None,
) -> None:
    """Search how each trained model is decoded best, on the dev sets, in a study that has ended; nothing is trained.

    Trials are ranked again with what is found, and test sets that were scored are scored again with it. Decoding
    settings that were changed in the study file apply.
    """
    from study.config.study_file import make_base_recipe, read_study
    from study.execution.decode import decode_study

    words = ["decode", "STUDY", *(["--share", str(share)] if share is not None else [])]
    found = run_where_it_is(on, study, words)
    if found is None:
        return
    study = found

    base = None if study.is_dir() else make_base_recipe(read_study(study))
    decode_study(open_ledger(study), share, typer.echo, base)
    typer.echo(f"MLflow gets the new figures with: decred-study track {study} --flush")


@app.command(
    rich_help_panel=STUDIES,
    epilog=example("decred-study fork search_spaces/demo.yaml search_spaces/demo-more.yaml"),
)
def fork(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="a study file, or the folder of a study", show_default=False)
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW.yaml", help="a study file with another name", show_default=False)],
    address: Address = None,
) -> None:
    """Start a new study with the trials of another one that fit it, and print which do not, and why.

    The corpus has to be the same; space, objective and budget may be others. The other study stays as it is.
    """
    from study.execution.fork import fork_study

    fork_study(open_ledger(old), new, typer.echo, address)


@app.command(
    rich_help_panel=STUDIES,
    epilog=example("decred-study plan search_spaces/demo.yaml", "decred-study plan search_spaces/demo.yaml --on lab"),
)
def plan(study: StudyPath, on: On = None, address: Address = None) -> None:
    """Print how long a study will take, and how much disk, from a few steps of its base recipe; nothing is kept."""
    if on is not None:
        from study.remote.studies import plan_there

        print_answer(plan_there(on, study))
        return
    from study.config.study_file import read_study
    from study.execution.budget_check import check_plan
    from study.execution.hang_watch import end_hanging
    from study.execution.plan import describe_plan
    from study.execution.probing import plan_study

    study_file = read_study(study)
    with end_hanging("the probe of the base recipe", study_file.failures.stall_seconds):
        found = plan_study(study_file, address)
    for line in (*describe_plan(found), *check_plan(study_file, found)):
        typer.echo(line)


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study validate search_spaces/demo.yaml",
        "decred-study validate search_spaces/demo.yaml --on lab",
    ),
)
def validate(study: StudyPath, on: On = None) -> None:
    """Check a study file, its corpus, folder and tracking, and print what it would run; nothing starts.

    With --on only the file and the profile are checked: what the cluster has is looked at by `preflight`.
    """
    from study.config.study_file import read_study

    study_file = read_study(study)
    from study.execution.checks import check, check_space  # takes seconds to import: the file's own faults come first
    from study.remote.place import read_place

    place = read_place(on, None) if on is not None else None
    checked, workers, search = (
        (check if place is None else check_space)(study_file),
        study_file.workers,
        study_file.search,
    )
    quantities = [name for name in ("ctc_weight", "auxiliary") if getattr(search, name) is not None]
    typer.echo(
        f"{study}: {checked.proposals} trials ({len(study_file.baselines)} baselines first)"
        + (f", then {checked.confirmations} to confirm finalists" if checked.confirmations else "")
        + (f", {checked.concurrency} at a time" if place is None else "")
        + f", {workers.count} workers with {workers.cpus:g} CPUs and "
        f"{workers.gpus:g} GPUs each; searches {', '.join([*quantities, *search.recipe]) or 'nothing'}"
    )
    if study_file.budget is not None:
        limits = ", ".join(f"{name} {limit:g}" for name, limit in study_file.budget.limits.items())
        typer.echo(f"budget: at most {limits}; whether these trials fit into it: decred-study plan {study}")
    if place is not None:
        typer.echo(
            f"what the cluster has is not checked yet; do it with: decred-study preflight {study} {place.option}"
        )
