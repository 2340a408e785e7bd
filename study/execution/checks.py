"""Everything about a study that can be checked before anything starts, and before its name is taken."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.addresses import check_head
from cluster.errors import ClusterError
from cluster.resources import Node, TrialResources, count_concurrent_trials, this_machine
from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.prepare import load_corpus
from study.config.places import study_folder
from study.config.study_file import StudyFile, base_recipe
from study.early_stopping.rules import check_grace_epochs
from study.ledger.lease import refuse_if_running, unwritable_folder_error
from study.ledger.ledger import STUDY, Ledger
from study.ledger.trials import Trials
from study.search.proposer import Proposer
from study.tracking.mlflow_store import check_form, check_uri


@dataclass(frozen=True)
class Checked:
    """What the checks found out."""

    base: Recipe  # with the corpus' fingerprint, where the corpus was looked at
    proposals: int  # of the whole study, baselines included
    at_once: int | None  # trials at the same time; None where a cluster has to be asked


def check(study: StudyFile, address: str | None = None) -> Checked:
    """Raise a UserError for the first thing that keeps the study from running; nothing is made or changed.

    `address` is the cluster that it is to run on; without one it has to fit on this machine.
    """
    at_once = admitted(study) if address is None else None
    space = check_space(study)
    base = with_values(space.base, {"data.fingerprint": load_corpus(space.base).fingerprint})
    _check_folder(study_folder(study), study, base)
    if study.tracking is not None:
        # A new study's server has to answer, because its address may be mistyped; a resumed one goes on without it.
        (check_form if (study_folder(study) / STUDY).exists() else check_uri)(study.tracking)
    if address is not None:
        try:
            check_head(address)
        except ClusterError as error:
            raise UserError(str(error)) from None
    return Checked(base, space.proposals, at_once)


def check_space(study: StudyFile) -> Checked:
    """The part of the checks that needs the study file alone: base recipe, search space, baselines."""
    base = base_recipe(study)
    proposals = Proposer(study, base).remaining(Trials())
    check_grace_epochs(study, base)
    return Checked(base, proposals, None)


def need_of(study: StudyFile) -> TrialResources:
    """What one trial asks the cluster for."""
    return TrialResources(study.workers.count, study.workers.cpus, study.workers.gpus)


def admitted(study: StudyFile, nodes: list[Node] | None = None) -> int:
    """Trials at the same time on this machine (or on `nodes`); a UserError when not even one fits."""
    try:
        return count_concurrent_trials(nodes or [this_machine()], need_of(study), study.workers.concurrent_trials)
    except ClusterError as error:
        raise UserError(str(error)) from None


def _check_folder(folder: Path, study: StudyFile, base: Recipe) -> None:
    """The folder is free, or holds this very study, and can be written."""
    refuse_if_running(folder)
    Ledger.refuse_other(folder, study, base)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise unwritable_folder_error(folder, error) from None
