"""Submitting a study: what goes into the upload, and the command that the job runs.

The job finds the study file and its recipe in its working folder, which goes with the job. Corpus and storage are
absolute paths of the cluster: the trials outlive the job.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from cluster.errors import ClusterError
from cluster.jobs import pack, submit
from model.errors import UserError
from model.strict import to_yaml, write_atomically
from study.config.places import storage_folder
from study.config.study_file import StudyFile, read_study, with_trials
from study.execution.checks import check_space

PACKAGES = ("model", "study", "cluster", "search_spaces")
HOUSE = Path(__file__).resolve().parents[2]
STUDY, RECIPE = "study.yaml", "base_recipe.yaml"


def submit_study(path: Path, address: str, trials: int | None = None) -> str:
    """Upload the study file, its recipe file and this project's packages, start the job; its id."""
    study = with_trials(read_study(path), trials)
    check_space(study)
    with tempfile.TemporaryDirectory(prefix="decred-submit-") as folder:
        try:
            pack(Path(folder), [HOUSE / name for name in PACKAGES], [])
            lay_out(study, Path(folder))
            return submit(address, Path(folder), command(trials))
        except ClusterError as error:
            raise UserError(str(error)) from None


def lay_out(study: StudyFile, folder: Path) -> None:
    """The study as the job reads it: what it names lies beside it, or is an absolute path."""
    changes: dict[str, object] = {"storage": str(storage_folder(study.storage))}
    if study.recipe.is_file:
        write_atomically(folder / RECIPE, Path(study.recipe.base).read_text(encoding="utf-8"))
        changes["recipe"] = study.recipe.model_copy(update={"base": RECIPE})
    write_atomically(folder / STUDY, to_yaml(study.model_copy(update=changes)))


def command(trials: int | None = None) -> str:
    """What the job runs; `auto` is the cluster that the job is on."""
    budget = "" if trials is None else f" --trials {trials}"
    return f"python -m study run {shlex.quote(STUDY)} --address auto{budget}"
