"""Submitting a study: what is uploaded, and the command that the job runs.

The job finds the study file and its recipe in its working folder, which is the upload. Corpus and storage are absolute
paths on the cluster: the trials outlive the job.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from cluster.errors import ClusterError
from cluster.jobs import SubmittedJob, pack, submit
from model.errors import UserError
from model.strict import to_yaml, write_atomically
from study.config.places import storage_folder
from study.config.study_file import StudyFile, read_study, with_trials
from study.execution.checks import check_space

PACKAGES = ("model", "study", "cluster", "search_spaces")
PACKAGES_FOLDER = Path(__file__).resolve().parents[2]  # a checkout, or site-packages
STUDY, RECIPE = "study.yaml", "base_recipe.yaml"


def submit_study(path: Path, address: str, trials: int | None = None) -> SubmittedJob:
    """Upload the study file, its recipe file and this project's packages, and start the job."""
    study = with_trials(read_study(path), trials)
    check_space(study)
    with tempfile.TemporaryDirectory(prefix="decred-submit-") as folder:
        try:
            pack(Path(folder), [PACKAGES_FOLDER / name for name in PACKAGES], [])
            write_study(study, Path(folder))
            return submit(address, Path(folder), make_job_command(trials))
        except ClusterError as error:
            raise UserError(str(error)) from None


def write_study(study: StudyFile, folder: Path) -> None:
    """Write the study file for the job: every file that it names is in `folder` or has an absolute path."""
    changes: dict[str, object] = {"storage": str(storage_folder(study.storage))}
    if study.recipe.is_file:
        write_atomically(folder / RECIPE, Path(study.recipe.base).read_text(encoding="utf-8"))
        changes["recipe"] = study.recipe.model_copy(update={"base": RECIPE})
    write_atomically(folder / STUDY, to_yaml(study.model_copy(update=changes)))


def make_job_command(trials: int | None = None) -> str:
    """The shell command of the job; the address `auto` is the cluster that the job runs on."""
    budget = "" if trials is None else f" --trials {trials}"
    return f"python -m study run {shlex.quote(STUDY)} --address auto{budget}"


def make_follow_command(job: SubmittedJob) -> str:
    """The shell command that follows the job's log; `ray` needs RAY_AUTH_MODE even where the token's file exists."""
    mode = "RAY_AUTH_MODE=token " if os.environ.get("RAY_AUTH_MODE") == "token" else ""
    return f"{mode}ray job logs {job.id} --address {job.dashboard} --follow"
