"""All that can be checked of a study before anything starts, and before its folder is made."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.addresses import check_head
from cluster.errors import ClusterError
from cluster.resources import (
    Node,
    TrialResources,
    count_concurrent_trials,
    count_fitting_trials,
    detect_this_machine,
)
from model.corpora.corpus import Corpus, Domain
from model.data.recipe_inputs import load_corpus
from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.places import study_folder
from study.config.study_file import StudyFile, make_base_recipe
from study.early_stopping.rules import check_grace_epochs
from study.execution.initial_weights import check_search
from study.ledger.lease import refuse_if_running, unwritable_folder_error
from study.ledger.ledger import STUDY, Ledger
from study.ledger.trials import Trials
from study.notifications.receivers import make_receivers
from study.search.model_size import check_baseline_sizes
from study.search.prior import read_prior
from study.search.proposer import Proposer
from study.tracking.mlflow_store import check_artifact_path, check_artifacts, check_form, check_uri


@dataclass(frozen=True)
class CheckResult:
    """What the checks found."""

    base: Recipe  # with the corpus' fingerprint, where the corpus was read
    proposals: int  # of the whole search, baselines included
    confirmations: int  # trainings of finalists with new seeds
    concurrency: int | None  # trials at the same time; None where it depends on a cluster


def check(study: StudyFile, address: str | None = None) -> CheckResult:
    """Raise a UserError for the first reason why the study cannot run; nothing is made or changed.

    `address` is the cluster where it will run; without one it has to fit on this machine.
    """
    concurrency = max_concurrent_trials(study) if address is None else None
    checked = check_space(study)
    corpus = load_corpus(checked.base)
    check_objective(study.objective.metric, corpus)
    if study.objective.second is not None:
        check_objective(study.objective.second, corpus, "second")
    check_search(checked.base, study.search)
    base = with_values(checked.base, {"data.fingerprint": corpus.fingerprint})
    _check_folder(study_folder(study), study, base)
    check_object_store(study)
    if study.search.prior is not None and not (study_folder(study) / STUDY).exists():  # else it may be recorded there
        read_prior(study.search.prior, Proposer(study, base).class_spaces)
    if study.notify is not None:
        make_receivers(study.notify)
    if study.tracking is not None:
        # A new study's server has to answer, because its address may be mistyped; a resumed study continues without it.
        (check_form if (study_folder(study) / STUDY).exists() else check_uri)(study.tracking)
        check_artifact_path(study.tracking, study_folder(study), study.object_store.artifacts)
    if address is not None:
        try:
            check_head(address)
        except ClusterError as error:
            raise UserError(str(error)) from None
    return CheckResult(base, checked.proposals, checked.confirmations, concurrency)


def check_object_store(study: StudyFile) -> None:
    """A UserError of one line where what a study keeps in an object store could not be written there."""
    settings = study.object_store
    check_artifacts(settings.artifacts, study.tracking)
    # The weights' store last: whoever corrects one fault after the other has the longest waits at the end.
    for url in dict.fromkeys(filter(None, (settings.artifacts, settings.checkpoints))):
        from model.weights.object_store import check_store

        check_store(url)


def check_objective(metric: str, corpus: Corpus, key: str = "metric") -> None:
    """A UserError where the corpus has no dev set of the domain that the objective's `key` is about."""
    domains: dict[str, Domain] = {"dev/in_domain/": "in", "dev/out_of_domain/": "out"}
    for prefix, domain in domains.items():
        if metric.startswith(prefix) and not corpus.set_names("dev", domain):
            sets = ", ".join(f"{name} ({corpus.sets[name].domain})" for name in corpus.set_names("dev"))
            raise UserError(
                f"objective.{key} is {metric}, but corpus {corpus.folder} has no dev set with domain {domain}; its "
                f"dev sets: {sets}. Give the corpus one, or choose dev/wer"
            )


def check_space(study: StudyFile) -> CheckResult:
    """The checks that need the study file alone: base recipe, search space, baselines, first rung."""
    base = make_base_recipe(study)
    proposer = Proposer(study, base)
    check_grace_epochs(study, base)
    check_baseline_sizes(study, base)
    return CheckResult(base, proposer.count_remaining(Trials()), proposer.count_confirmations(Trials()), None)


def make_trial_resources(study: StudyFile) -> TrialResources:
    """The resources that one trial needs."""
    return TrialResources(study.workers.count, study.workers.cpus, study.workers.gpus)


def max_concurrent_trials(study: StudyFile, nodes: list[Node] | None = None) -> int:
    """How many trials run at the same time on `nodes`, by default on this machine; a UserError when not one fits.

    `nodes` are those of a cluster, where others may be added: 0 when not one fits and the study may wait for them.
    """
    workers, trial = study.workers, make_trial_resources(study)
    if nodes is not None and workers.wait_seconds is not None and not count_fitting_trials(nodes, trial):
        return 0
    try:
        return count_concurrent_trials(nodes or [detect_this_machine()], trial, workers.concurrent_trials)
    except ClusterError as error:
        remedy = "" if nodes is None else "; or set workers.wait_seconds, to wait for machines that are added"
        raise UserError(f"{error}{remedy}") from None


def _check_folder(folder: Path, study: StudyFile, base: Recipe) -> None:
    """A UserError unless the folder is free or holds this study, and can be written."""
    refuse_if_running(folder)
    Ledger.refuse_other(folder, study, base)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise unwritable_folder_error(folder, error) from None
