"""The commands on clusters, and on studies that run there: submit, studies, logs, attach, stop, resume, cluster ..."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.arguments import DashboardAddress, On, StudyName, StudyPath, Trials, example, print_answer
from study.cli.giving import By

if TYPE_CHECKING:
    from cluster.jobs.client import Job, Jobs
    from study.remote.place import Place

app = typer.Typer()
machines = typer.Typer(
    help="Start, look at and end a cluster that a profile describes.",
    epilog=example("decred-study cluster up lab", "decred-study cluster down lab"),
    no_args_is_help=True,
)
CLUSTER = "Clusters"

Profile = Annotated[str, typer.Argument(metavar="PROFILE", help="a profile's name or file", show_default=False)]
Variables = Annotated[
    list[str] | None, typer.Option("--env", metavar="NAME", help="pass this variable of the environment to the study")
]
Wait = Annotated[bool, typer.Option("--wait", help="print the study's log to its end; the exit code is the study's")]


@app.command(
    rich_help_panel=CLUSTER,
    epilog=example(
        "decred-study submit search_spaces/demo.yaml --on lab",
        "decred-study submit search_spaces/demo.yaml --address http://127.0.0.1:8265 --wait",
    ),
)
def submit(
    study: StudyPath,
    on: On = None,
    address: DashboardAddress = None,
    trials: Trials = None,
    env: Variables = None,
    wait: Wait = False,
    check: Annotated[bool, typer.Option(help="ask the cluster before whether the study could run there")] = True,
) -> None:
    """Run a study on a cluster; the study file and these packages are uploaded.

    Corpus and study folder lie on storage that the cluster's machines share: under the paths that they have here, or
    where the profile says. A study that runs already is not started again.
    """
    from study.config.study_file import read_study
    from study.remote.place import open_place, read_place
    from study.remote.submission import storage_here, submit_study

    study_file = read_study(study)
    place = read_place(on, address, storage_here(study_file))
    with open_place(place) as jobs:
        submitted = submit_study(jobs, place, study, trials, place.environment(tuple(env or ())), typer.echo, check)
        _report(submitted.job, submitted.is_new, study_file.name, place.option)
        if wait:
            _wait(jobs, submitted.job)


@app.command(
    rich_help_panel=CLUSTER,
    epilog=example("decred-study preflight --on lab", "decred-study preflight search_spaces/demo.yaml --on lab"),
)
def preflight(
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY.yaml", help="a study file, whose corpus is looked at, too")
    ] = None,
    on: On = None,
    address: DashboardAddress = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="for each node to answer")] = 120.0,
    json: Annotated[bool, typer.Option("--json", help="print all that was found, as one line of JSON")] = False,
) -> None:
    """Look at every node of a cluster and at the network between them, before a study runs there.

    A line for each node, each pair of neighbours and each fault, with what to do. The exit code is 1 where there are
    faults; the last line is then what to put into the profile, so that trials keep away from the nodes that have them.
    """
    from cluster.preflight.report import describe_report, format_report
    from study.config.study_file import read_study
    from study.remote.place import open_place, read_place
    from study.remote.preflight import NOWHERE, run_preflight
    from study.remote.submission import storage_here

    place = read_place(on, address, NOWHERE if study is None else storage_here(read_study(study)))
    with open_place(place) as jobs:
        report = run_preflight(jobs, place, study, seconds)
    lines = [format_report(report)] if json else describe_report(report)
    typer.echo("\n".join(lines))
    if report.findings:
        raise typer.Exit(1)


@app.command(rich_help_panel=CLUSTER, epilog=example("decred-study studies --on lab"))
def studies(on: On = None, address: DashboardAddress = None) -> None:
    """List the studies that were submitted to a cluster."""
    from study.display.board import make_console
    from study.remote.place import open_place, read_place
    from study.remote.studies import list_studies, make_studies_table

    with open_place(read_place(on, address)) as jobs:
        make_console().print(make_studies_table(list_studies(jobs)))


@app.command(
    rich_help_panel=CLUSTER,
    epilog=example("decred-study logs demo --on lab --follow", "decred-study logs demo --on lab --trial 3"),
)
def logs(
    study: StudyName,
    on: On = None,
    address: DashboardAddress = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the study ends")] = False,
    trial: Annotated[int | None, typer.Option(help="what this trial left: its epochs, and its error")] = None,
) -> None:
    """Print what a study on a cluster prints; or of any study, what one of its trials left."""
    from study.remote.place import open_place, read_place
    from study.remote.studies import find_study, read_log, run_there, wait_for

    if trial is not None and on is None and address is None:
        from study.cli.arguments import open_ledger
        from study.display.trial_log import describe_trial

        typer.echo("\n".join(describe_trial(open_ledger(Path(study)), trial)))
        return
    place = read_place(on, address)
    with open_place(place) as jobs:
        if trial is not None:
            print_answer(run_there(jobs, place, study, ["logs", "STUDY", "--trial", str(trial)]))
        elif follow:
            wait_for(jobs, find_study(jobs, study).id)
        else:
            typer.echo(read_log(jobs, find_study(jobs, study).id), nl=False)


@app.command(rich_help_panel=CLUSTER, epilog=example("decred-study attach demo --on lab"))
def attach(study: StudyName, on: On = None, address: DashboardAddress = None) -> None:
    """Show a study's table until it has ended on a cluster. Ctrl-C ends the view, not the study."""
    from study.remote.attaching import attach as attach_view
    from study.remote.attaching import interrupted_by_hangup
    from study.remote.place import open_place, read_place

    place = read_place(on, address)
    with interrupted_by_hangup(), open_place(place) as jobs:
        _exit_as(attach_view(jobs, place, study))


@app.command(rich_help_panel=CLUSTER, epilog=example("decred-study stop demo --on lab"))
def stop(study: StudyName, on: On = None, address: DashboardAddress = None) -> None:
    """Stop a study on a cluster in order; `resume` continues it."""
    from study.remote.place import open_place, read_place
    from study.remote.studies import stop_study

    place = read_place(on, address)
    with open_place(place) as jobs:
        job = stop_study(jobs, study)
    typer.echo(f"stopped job {job.id}; continue it with: decred-study resume {study} {place.option}")


@app.command(
    rich_help_panel=CLUSTER, epilog=example("decred-study resume demo --on lab", "decred-study resume studies/demo")
)
def resume(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="a study's name, file or folder", show_default=False)],
    on: On = None,
    address: DashboardAddress = None,
    env: Variables = None,
    wait: Wait = False,
    by: By = None,
) -> None:
    """Continue a study on a cluster from its folder there, with the code of this machine; end a study's pause.

    One that was stopped before it had a folder is submitted again. Without a cluster, a study that was paused here goes
    on; one that does not run is continued by `run`.
    """
    from study.cli.giving import give
    from study.remote.place import open_place, read_place
    from study.remote.resuming import resume_study

    if on is None and address is None:
        give(Path(study), "resume", on=None, wait=True, by=by, words=[])
        return
    place = read_place(on, address)
    with open_place(place) as jobs:
        submitted = resume_study(jobs, place, study, place.environment(tuple(env or ())), typer.echo)
        _report(submitted.job, submitted.is_new, study, place.option)
        if not submitted.is_new:
            _end_pause(jobs, place, study)
        if wait:
            _wait(jobs, submitted.job)


@machines.command(epilog=example("decred-study cluster up lab"))
def up(profile: Profile) -> None:
    """Start the cluster of a profile; what runs already stays."""
    from study.remote.bring_up import bring_up

    for line in bring_up(profile):
        typer.echo(line)


@machines.command(
    epilog=example(
        "decred-study cluster render hpc demo.yaml -o demo.sh",
        "decred-study cluster render kubernetes -o cluster.yaml",
    )
)
def render(
    profile: Profile,
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY.yaml", help="run this study, then go away", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="a file; without it, standard output")] = None,
) -> None:
    """Write the file with which Slurm, Kubernetes, SkyPilot or `ray up` start a cluster, or run one study on it.

    The study file has to lie where the cluster's machines find it.
    """
    from model.strict import write_atomically
    from study.remote.bring_up import render_cluster

    content, command = render_cluster(profile, study)
    if out is None:
        typer.echo(content, nl=False)
        return
    write_atomically(out, content)
    typer.echo(f"{out} written; start it with: {command.rsplit(maxsplit=1)[0]} {out}")


@machines.command(epilog=example("decred-study cluster down lab"))
def down(profile: Profile) -> None:
    """Stop the studies of a cluster in order, then end its processes on all machines."""
    from study.remote.bring_up import take_down

    for line in take_down(profile):
        typer.echo(line)


@machines.command(epilog=example("decred-study cluster status lab"))
def status(profile: Profile) -> None:
    """Show what runs of a cluster on each machine."""
    from study.remote.bring_up import look_at

    for line in look_at(profile):
        typer.echo(line)


def _end_pause(jobs: Jobs, place: Place, study: str) -> None:
    """Have a study that runs go on where a person has paused it; nothing is printed where nobody has."""
    from study.ledger.commands import describe_user
    from study.remote.studies import run_there

    answer = run_there(jobs, place, study, ["resume", "STUDY", "--by", describe_user()])
    if answer.code == 0:
        print_answer(answer)


def _report(job: str, is_new: bool, study: str, option: str) -> None:
    typer.echo(f"job {job}" if is_new else f"study '{study}' runs already, as job {job}")
    typer.echo(f"follow it with: decred-study attach {study} {option}")


def _wait(jobs: Jobs, job_id: str) -> None:
    from study.remote.studies import wait_for

    _exit_as(wait_for(jobs, job_id))


def _exit_as(job: Job) -> None:
    """End with the exit code of a study's job: 0 where it is complete, 130 where it was stopped, 1 where it failed."""
    from model.errors import UserError
    from study.remote.studies import EXIT_CODES, describe_state

    if not job.has_ended:
        raise UserError(f"job {job.id} has not ended, it is {describe_state(job)}; give the command again")
    raise typer.Exit(EXIT_CODES[describe_state(job)])
