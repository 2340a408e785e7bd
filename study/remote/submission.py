"""Submitting a study: what is uploaded, what is checked before, and the job that runs it.

The job finds the study file and its recipe in its working folder, which is the upload. Corpus and storage are paths of
the cluster: the trials outlive the job. Submitting is idempotent: a study that runs already is not started again, and
the id of a job is made of the study's name, its content and a number that grows with each session.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.jobs.client import Job, JobExistsError, Jobs
from cluster.jobs.packing import find_commit, measure
from cluster.profiles.profile import Profile
from model.errors import UserError
from model.recipe.files import PATH_KEYS, list_paths, read_recipe, with_values
from model.strict import to_yaml, write_atomically
from study.config.places import storage_folder
from study.config.study_file import StudyFile, read_study, with_trials
from study.config.tracking_uri import refuse_password
from study.execution.checks import check_space
from study.ledger.commands import describe_user
from study.ledger.manifest import COMMIT_VARIABLE, list_versions
from study.remote.describing import MAY_BE_MADE, MUST_EXIST
from study.remote.place import Place, explain, map_paths
from study.remote.requests import PACKAGES_FOLDER, ask, pack_project

STUDY, RECIPE = "study.yaml", "base_recipe.yaml"
# Packages whose versions decide what comes of a training; others may differ.
COMPARED = ("python", "ray", "torch", "torchaudio", "optuna", "mlflow", "lhotse", "numpy", "sentencepiece")
# What a job's metadata has of its study; file and trials are what it was submitted with.
NAME, FOLDER, HASH, COMMIT, FROM = "study", "folder", "study_hash", "commit", "submitted_by"
FILE, TRIALS = "file", "trials"
Print = Callable[[str], object]


@dataclass(frozen=True)
class Submitted:
    """A study's job; `is_new` is false where it ran already."""

    job: str
    is_new: bool


def submit_study(
    jobs: Jobs, place: Place, path: Path, trials: int | None, env: dict[str, str], print_line: Print, check: bool = True
) -> Submitted:
    """Upload a study file, its recipe and this project's packages, and start the job that runs the study.

    With `check` the cluster is asked before whether the study could run there. A UserError where it could not, or
    where another study of this name runs.
    """
    study = with_trials(read_study(path), trials)
    check_space(study)
    with tempfile.TemporaryDirectory(prefix="decred-submit-") as temporary, explain():
        folder = Path(temporary)
        pack_project(folder)
        digest = write_study(study, folder, place.profile)
        commit = find_commit(PACKAGES_FOLDER)
        print_line(f"uploading {measure(folder)}, commit {commit or 'none, since it is no checkout'}")
        earlier = find_jobs(jobs.list(), study.name, place.study_folder(study.name))
        if living := _find_living(earlier, digest, study.name):
            return Submitted(living.id, is_new=False)
        if check:
            # Without a profile the storage is a folder of the study file, which a run makes.
            storage = MAY_BE_MADE if place.is_address else MUST_EXIST
            _check_cluster(jobs, folder, env, storage, print_line)
        metadata = _describe(study.name, place.study_folder(study.name), digest, commit)
        metadata |= {FILE: str(path.absolute())} | ({} if trials is None else {TRIALS: str(trials)})
        budget = [] if trials is None else ["--trials", str(trials)]
        command = ["python", "-m", "study", "run", STUDY, "--address", "auto", *budget]
        return start_session(jobs, folder, command, metadata, earlier, env)


def start_session(
    jobs: Jobs,
    folder: Path,
    command: Sequence[str],
    metadata: Mapping[str, str],
    earlier: Sequence[Job],
    env: dict[str, str],
) -> Submitted:
    """Start the next session of a study. Where somebody else does so at the same moment, theirs is the one."""
    number = 1 + max((_read_number(job.id) for job in earlier), default=0)
    job_id = f"{metadata[NAME]}-{metadata[HASH]}-{number}"
    about = {COMMIT_VARIABLE: metadata[COMMIT]} if metadata.get(COMMIT) else {}
    try:
        jobs.submit(folder, " ".join(command), job_id, metadata, env | about)
    except JobExistsError:
        return Submitted(job_id, is_new=False)
    return Submitted(job_id, is_new=True)


def write_study(study: StudyFile, folder: Path, profile: Profile) -> str:
    """Write the study file for the job: files that it names are in `folder`, or are where the cluster has them.

    Returns a hash of the content.
    """
    recipe, tracking = study.recipe, profile.tracking or study.tracking
    refuse_password(tracking)  # the cluster keeps what is uploaded
    changes: dict[str, object] = {
        "corpus": profile.path_there(study.corpus),
        "storage": profile.storage,
        "tracking": tracking,
    }
    if study.search.prior is not None:
        prior = profile.path_there(study.search.prior)
        changes["search"] = study.search.model_copy(update={"prior": prior})
    if study.notify is not None and study.notify.command is not None:
        program, *rest = study.notify.command.split(" ")
        command = " ".join([profile.path_there(program), *rest])
        changes["notify"] = study.notify.model_copy(update={"command": command})
    digest = hashlib.sha256()
    if recipe.is_file:
        base_yaml = _write_recipe(Path(recipe.base), profile)
        write_atomically(folder / RECIPE, base_yaml)
        digest.update(base_yaml.encode())
        recipe = recipe.model_copy(update={"base": RECIPE})
    changes["recipe"] = recipe.model_copy(update={"set": map_paths(profile, recipe.set, PATH_KEYS)})
    study_yaml = to_yaml(study.model_copy(update=changes))
    write_atomically(folder / STUDY, study_yaml)
    digest.update(study_yaml.encode())
    return digest.hexdigest()[:8]


def find_jobs(jobs: Sequence[Job], study: str, folder: str | None = None) -> list[Job]:
    """The jobs of a study, the latest first; with `folder` those of the study in that folder."""
    mine = [job for job in jobs if job.metadata.get(NAME) == study]
    return [job for job in mine if folder in (None, job.metadata.get(FOLDER))]


def storage_here(study: StudyFile) -> str:
    """The absolute path of the study file's `storage` on this machine."""
    return str(storage_folder(study.storage))


def _find_living(earlier: Sequence[Job], digest: str, name: str) -> Job | None:
    living = next((job for job in earlier if not job.has_ended), None)
    if living is not None and living.metadata.get(HASH) != digest:
        raise UserError(
            f"study '{name}' runs on this cluster already, from another file (job {living.id}); stop it first with "
            f"`decred-study stop {name}`, or give this one another name"
        )
    return living


def _check_cluster(jobs: Jobs, folder: Path, env: dict[str, str], storage: str, print_line: Print) -> None:
    answer = ask(jobs, ["python", "-m", "study.remote.describing", STUDY, storage], env, folder=folder)
    if answer.code != 0:
        said = answer.errors.strip().splitlines() or ["it printed nothing"]
        raise UserError(f"this project does not run in the cluster's environment ({said[-1]}); install it there")
    found = json.loads(answer.out.strip().splitlines()[-1])
    if found["fault"] is not None:
        raise UserError(f"on the cluster: {found['fault']}")
    here, there = list_versions(), found["versions"]
    others = [name for name in COMPARED if here.get(name) != there.get(name)]
    differing = [f"{name} {there.get(name)}, here {here.get(name)}" for name in others]
    if differing:
        print_line(f"the cluster has other versions: {'; '.join(differing)}")


def _describe(name: str, folder: str, digest: str, commit: str | None) -> dict[str, str]:
    about = {NAME: name, FOLDER: folder, HASH: digest, FROM: describe_user()}
    return about | ({COMMIT: commit} if commit else {})


def _read_number(job_id: str) -> int:
    found = re.search(r"-(\d+)$", job_id)
    return int(found[1]) if found else 0


def _write_recipe(file: Path, profile: Profile) -> str:
    """The content of a recipe file, as it is where it names no files, so that its hash stays."""
    recipe = read_recipe(file)
    paths = list_paths(recipe)
    if not paths:
        return file.read_text(encoding="utf-8")
    return to_yaml(with_values(recipe, map_paths(profile, paths, PATH_KEYS)))
