"""Continuing a study on a cluster: from its folder there or, where its job ended before it made one, from its file."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cluster.jobs.client import Job, Jobs
from model.errors import UserError
from study.config.study_file import read_study
from study.ledger.commands import describe_user
from study.remote.place import Place
from study.remote.requests import ask, pack_project
from study.remote.studies import find_folder
from study.remote.submission import (
    FILE,
    FOLDER,
    FROM,
    HASH,
    NAME,
    STUDY,
    TRIALS,
    Submitted,
    find_jobs,
    start_session,
    submit_study,
)

Print = Callable[[str], object]


def resume_study(jobs: Jobs, place: Place, name: str, env: dict[str, str], print_line: Print) -> Submitted:
    """Continue a study from its folder, with the code of this machine; one that runs is left alone.

    A study whose job ended before it made a folder has nothing to continue: it is submitted again, from the file that
    it was submitted from. A UserError, with the command that starts it, where that file is not on this machine.
    """
    earlier = find_jobs(jobs.list(), name)
    if earlier and not earlier[0].has_ended:
        return Submitted(earlier[0].id, is_new=False)
    folder = find_folder(jobs, place, name)
    if not _has_begun(jobs, place, name, folder):
        return _submit_again(jobs, place, name, folder, earlier[0] if earlier else None, env, print_line)
    about = dict(earlier[0].metadata) if earlier else {NAME: name, FOLDER: folder, HASH: "again"}
    with tempfile.TemporaryDirectory(prefix="decred-submit-") as upload:
        pack_project(Path(upload))
        command = ["python", "-m", "study", "run", shlex.quote(folder), "--address", "auto", "--resume"]
        return start_session(jobs, Path(upload), command, about, earlier, env)


def _has_begun(jobs: Jobs, place: Place, name: str, folder: str) -> bool:
    """Whether the study has a folder."""
    if (mounted := place.mounted_folder(name)) is not None:
        return (mounted / STUDY).is_file()
    return ask(jobs, ["test", "-f", f"{folder}/{STUDY}"], dict(place.profile.env)).code == 0


def _submit_again(
    jobs: Jobs, place: Place, name: str, folder: str, job: Job | None, env: dict[str, str], print_line: Print
) -> Submitted:
    if job is None:
        raise UserError(
            f"the cluster has no study '{name}' in {folder}; start it with: decred-study submit STUDY.yaml "
            f"{place.option}"
        )
    about = job.metadata
    file = Path(about.get(FILE) or "STUDY.yaml")
    if about.get(FROM) != describe_user() or not file.is_file() or read_study(file).name != name:
        raise UserError(
            f"study '{name}' has no folder on the cluster yet, and the file that {about.get(FROM, 'somebody')} has "
            f"submitted is not here; start it with: {_make_command(place, about)}"
        )
    print_line(f"study '{name}' ended before it began; its file is submitted again: {_make_command(place, about)}")
    # An address says nothing of storage, the job does.
    profile = place.profile.model_copy(update={"storage": str(PurePosixPath(folder).parent)})
    trials = int(about[TRIALS]) if TRIALS in about else None
    return submit_study(jobs, replace(place, profile=profile), file, trials, env, print_line)


def _make_command(place: Place, about: Mapping[str, str]) -> str:
    budget = f" --trials {about[TRIALS]}" if TRIALS in about else ""
    return f"decred-study submit {shlex.quote(about.get(FILE) or 'STUDY.yaml')} {place.option}{budget}"
