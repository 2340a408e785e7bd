"""The probe of a study's base recipe, on this machine or on one of a cluster's."""

from __future__ import annotations

from cluster.connect import connect
from cluster.errors import ClusterError
from model.corpora.corpus import Corpus
from model.data.recipe_inputs import load_corpus
from model.errors import UserError
from model.recipe.recipe import Recipe
from model.training.probe import Probe, probe_recipe
from study.config.study_file import StudyFile
from study.execution.checks import check, max_concurrent_trials
from study.execution.plan import Plan, make_plan


def plan_study(study: StudyFile, address: str | None = None) -> Plan:
    """Probe a study's base recipe and plan the study; on a cluster the probe runs on a machine that has room for it."""
    checked = check(study, address)
    workers = study.workers.count
    if address is None:
        probe, concurrency = probe_recipe(checked.base, workers), checked.concurrency
    else:
        probe, concurrency = _probe_there(study, checked.base, address)
    assert concurrency is not None
    corpus: Corpus = load_corpus(checked.base)
    return make_plan(study, checked.base, corpus, probe, checked.proposals, checked.confirmations, concurrency)


def _probe_there(study: StudyFile, base: Recipe, address: str) -> tuple[Probe, int]:
    """The probe as a task with the resources of one worker, and how many trials the cluster has room for."""
    try:
        with connect(address) as nodes:
            import ray

            concurrency = max_concurrent_trials(study, nodes)
            remote = ray.remote(num_cpus=study.workers.cpus, num_gpus=study.workers.gpus)(_probe)
            found: Probe = ray.get(remote.remote(base.model_dump_json(), study.workers.count))
            return found, concurrency
    except ClusterError as error:
        raise UserError(str(error)) from None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, UserError) else UserError(f"the probe failed: {cause}")) from None


def _probe(recipe: str, workers: int) -> Probe:
    return probe_recipe(Recipe.model_validate_json(recipe), workers)
