"""What a trial's driver is given: the task of its workers, and the nodes that it avoids."""

from __future__ import annotations

from model.recipe.recipe import Recipe
from study.execution.node_watch import NodeWatch
from study.ledger.ledger import Ledger
from study.workers.messages import Task, TrialConfig

PARTS_FILE = "batch-parts.json"  # in the study's folder


def make_config(ledger: Ledger, watch: NodeWatch, number: int, recipe: Recipe, score_tests: bool) -> TrialConfig:
    """What a trial's driver is given, of a trial that is recorded as started, or whose test sets are scored."""
    sessions, record = ledger.log.files(), ledger.trials[number]
    task = Task(
        recipe.model_dump_json(),
        recipe.hash,
        str(ledger.trial_folder(number)),
        score_tests,
        str(ledger.folder / PARTS_FILE),
        study_folder=str(ledger.folder),
        study_id=ledger.manifest.get("id"),
        session=sessions[-1].name if sessions else None,
    )
    avoided = watch.find_avoided(number, and_draining=True)
    return TrialConfig(number, task, record.baseline is not None, record.confirms is not None, avoided)
