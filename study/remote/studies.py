"""The studies of a cluster by their names: which there are, their logs, and stopping them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from cluster.jobs.client import Job, Jobs
from model.errors import UserError
from model.strict import unknown_name
from study.config.study_file import read_study
from study.display.board import make_console
from study.remote.place import Place, open_place, read_place
from study.remote.requests import RequestResult, ask, pack_project, unpack
from study.remote.submission import FOLDER, NAME, STUDY, find_jobs, write_study

RAYS_OWN = ("Running entrypoint for job ", "Runtime env is setting up.")  # lines in every job's log
STOPPED = "stopped"  # states of a study's latest job, beside those of a job
EXIT_CODES = {"complete": 0, "stopped": 130, "failed": 1}  # of `submit --wait` and `attach`


def list_studies(jobs: Jobs) -> list[Job]:
    """The latest job of each study, the latest first."""
    latest: dict[str, Job] = {}
    for job in jobs.list():
        if NAME in job.metadata:
            latest.setdefault(job.metadata[NAME], job)
    return list(latest.values())


def make_studies_table(jobs: Sequence[Job]) -> Table:
    """A row a study: its state, when it was submitted and by whom, its commit, its folder."""
    table = Table("study", "state", "submitted", "by", "commit", "folder", box=None, pad_edge=False)
    for job in jobs:
        started = datetime.fromtimestamp(job.start or 0.0, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
        about = job.metadata
        commit = about.get("commit", "-")[:10]
        table.add_row(about[NAME], describe_state(job), started, about.get("submitted_by", "-"), commit, about[FOLDER])
    return table


def describe_state(job: Job) -> str:
    """In one word what became of a study's job: pending, running, complete, stopped or failed."""
    if not job.has_ended:
        return job.status.lower()
    if job.status == "SUCCEEDED":
        return "complete"
    return STOPPED if job.status == "STOPPED" or job.exit_code == EXIT_CODES[STOPPED] else "failed"


def find_study(jobs: Jobs, name: str) -> Job:
    """The latest job of a study; a UserError with the nearest name where there is none."""
    everything = jobs.list()
    if found := find_jobs(everything, name):
        return found[0]
    known = {job.metadata[NAME] for job in everything if NAME in job.metadata}
    help_ = unknown_name(name, known) if known else "none was submitted yet"
    raise UserError(f"the cluster at '{jobs.dashboard}' knows no study '{name}'; {help_}")


def find_folder(jobs: Jobs, place: Place, name: str) -> str:
    """Where a study lies on the cluster: where its job says, or below the profile's storage.

    A cluster's jobs are forgotten with its head, its storage is not.
    """
    found = find_jobs(jobs.list(), name)
    if found and FOLDER in found[0].metadata:
        return found[0].metadata[FOLDER]
    if place.profile.storage == "/":
        return str(find_study(jobs, name).metadata[FOLDER])  # which says what there is
    return place.study_folder(name)


def run_there(jobs: Jobs, place: Place, name: str, command: Sequence[str], out: Path | None = None) -> RequestResult:
    """Run `decred-study COMMAND` on a study where it is; STUDY in it is the study's folder there, OUT what it writes.

    What it writes is put to `out` here.
    """
    folder, file = find_folder(jobs, place, name), f"answer-{out.name}" if out else None
    words = [{"STUDY": folder, "OUT": file or ""}.get(word, word) for word in command]
    env = dict(place.profile.env) | {"COLUMNS": str(make_console().width)}
    answer = ask(jobs, ["python", "-m", "study", *words], env, file)
    if out is not None and answer.code == 0:
        assert answer.archive is not None
        unpack(answer.archive, out)
    return answer


def plan_there(on: str, path: Path) -> RequestResult:
    """Run `decred-study plan` on a cluster, for a study file of this machine."""
    study, place = read_study(path), read_place(on, None)
    with tempfile.TemporaryDirectory(prefix="decred-plan-") as temporary, open_place(place) as jobs:
        pack_project(Path(temporary))
        write_study(study, Path(temporary), place.profile)
        words = ["python", "-m", "study", "plan", STUDY, "--address", "auto"]
        return ask(jobs, words, place.environment(), folder=Path(temporary))


def stop_study(jobs: Jobs, name: str) -> Job:
    """Stop a study's job in order, and wait for its end. A UserError where it does not run."""
    job = find_study(jobs, name)
    if job.has_ended:
        raise UserError(f"study '{name}' does not run: its job {job.id} is {describe_state(job)}")
    stopped = jobs.stop(job.id)
    if not stopped.has_ended:
        raise UserError(f"job {job.id} does not end; see its log with `decred-study logs {name}`")
    return stopped


def follow_log(jobs: Jobs, job: str) -> Iterator[str]:
    """The lines that a study's job prints, to its end, without Ray's own."""
    rest = ""
    for piece in jobs.follow(job):
        *lines, rest = (rest + piece).split("\n")
        yield from (line for line in lines if not any(own in line for own in RAYS_OWN))
    if rest:
        yield rest


def read_log(jobs: Jobs, job: str) -> str:
    """What a study's job has printed, without Ray's own lines."""
    lines = jobs.read_log(job).splitlines(keepends=True)
    return "".join(line for line in lines if not any(own in line for own in RAYS_OWN))


def wait_for(jobs: Jobs, job_id: str) -> Job:
    """Print a study's log to its end; the job then."""
    for line in follow_log(jobs, job_id):
        print(line, flush=True)
    return jobs.wait(job_id, 30.0)
