"""Submitting a study: what goes into the upload, and the command that the job runs."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from cluster.errors import ClusterError
from cluster.jobs import pack, submit
from model.errors import UserError
from study.study_file import base_recipe, read_study

PACKAGES = ("model", "study", "cluster", "search_spaces")
HOUSE = Path(__file__).resolve().parent.parent


def submit_study(path: Path, address: str, trials: int | None = None) -> str:
    """Upload the study file, its recipe file and this project's packages, start the job; its id."""
    study = read_study(path)
    base_recipe(study)
    with tempfile.TemporaryDirectory(prefix="decred-submit-") as folder:
        try:
            files = [path] + ([Path(study.recipe.base)] if study.recipe.is_file else [])
            pack(Path(folder), [HOUSE / name for name in PACKAGES], files)
            return submit(address, Path(folder), command(path.name, trials))
        except ClusterError as error:
            raise UserError(str(error)) from None


def command(name: str, trials: int | None = None) -> str:
    """What the job runs; `auto` is the cluster that the job is on."""
    budget = "" if trials is None else f" --trials {trials}"
    return f"python -m study run {shlex.quote(name)} --address auto{budget}"
