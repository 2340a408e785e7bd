"""MLflow hears of a study whole and once, on every store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from contracts.told import RECIPE, curve, seen, trial, whole_study
from mlflow import MlflowClient

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking import delivery
from study.tracking.tracking import Tracking, flush, rebuild


def test_a_study_is_told_with_every_state_parameter_and_epoch(anywhere: Ledger) -> None:
    whole_study(anywhere)
    told = flush(anywhere)
    assert told == len(anywhere.events())
    runs = seen(anywhere)
    study = runs.pop(anywhere.study.name)
    assert (study["status"], study["nested"]) == ("RUNNING", False)
    assert all(run["nested"] for run in runs.values())
    assert {name: (run["tags"]["trial.state"], run["status"]) for name, run in runs.items()} == {
        "0000 ed": ("complete", "FINISHED"),
        "0001": ("pruned", "KILLED"),
        "0002": ("interrupted", "KILLED"),
        "0003": ("infeasible", "FAILED"),
        "0004": ("failed", "FAILED"),
        "0005": ("waiting", "SCHEDULED"),
        "0006": ("complete", "FINISHED"),
        "0007": ("running", "RUNNING"),
    }
    assert runs["0000 ed"]["params"] == {"ctc_weight": "0.1", "recipe_hash": RECIPE.hash, "baseline": "ed"}
    assert runs["0003"]["params"] == {"ctc_weight": "0.5"}
    assert curve(runs["0000 ed"], "dev/wer") == [(1, 89.0), (2, 88.0), (3, 87.0)]
    assert curve(runs["0000 ed"], "test/a/wer") == [(3, 50.0)]
    assert curve(runs["0001"], "dev/wer") == [(1, 80.0), (2, 79.0)]
    assert curve(runs["0006"], "dev/wer") == [(1, 55.0), (2, 45.0)]
    assert curve(runs["0006"], "test/a/wer") == [(2, 65.0)]
    assert runs["0000 ed"]["files"] == ["recipe.yaml"]
    assert (runs["0004"]["tags"]["trial.retries"], runs["0006"]["tags"]["trial.source"]) == ("1", "elsewhere/3")
    assert runs["0003"]["tags"]["trial.reason"] == "heads 3 do not divide width 128"
    assert runs["0006"]["times"] == (1_700_000_000_000, 1_700_000_060_000)
    records = anywhere.trials()
    assert runs["0000 ed"]["times"] == tuple(round(1000 * (at or 0)) for at in (records[0].started, records[0].ended))


def test_the_end_of_a_study_names_its_best_trial(opened: Callable[[str], Ledger], file: str) -> None:
    ledger = opened(file)
    ledger.append("study_started", trials=1, concurrency=1)
    trial(ledger, 0)
    ledger.study_ended(TrialState.COMPLETE, ledger.trials()[0])
    flush(ledger)
    study = seen(ledger)[ledger.study.name]
    best = {"study.best_trial": "0", "study.best_recipe_hash": RECIPE.hash, "study.status": "complete"}
    assert study["tags"] == best | {"study.id": ledger.manifest["id"]}
    assert study["status"] == "FINISHED"


def test_what_is_told_twice_is_kept_once(anywhere: Ledger) -> None:
    whole_study(anywhere)
    flush(anywhere)
    first = seen(anywhere)
    (anywhere.folder / delivery.CURSOR).unlink()
    assert flush(anywhere) == len(anywhere.events())
    assert seen(anywhere) == first
    # The same rows again, as after an answer that was lost behind the metrics and before the tag that counts epochs.
    client = MlflowClient(tracking_uri=anywhere.study.tracking)
    experiment = client.get_experiment_by_name(anywhere.study.name).experiment_id
    for run in client.search_runs([experiment], "tags.`trial.number` = '0'"):
        client.delete_tag(run.info.run_id, "trial.epoch")
    rebuild(anywhere)
    assert seen(anywhere) == first


def test_an_empty_mlflow_is_filled_from_the_ledger_with_the_same_runs(
    anywhere: Ledger, followed: Callable[[Ledger], Tracking], empty_file: Path, tmp_path: Path
) -> None:
    sender = followed(anywhere)
    whole_study(anywhere)
    sender.wake()
    assert sender.close(60) == 0
    first = seen(anywhere)
    shutil.copy(empty_file, tmp_path / "empty.db")
    other = anywhere.study.model_copy(update={"tracking": f"sqlite:///{tmp_path}/empty.db"})
    shutil.copytree(anywhere.folder, tmp_path / "copy")
    copied = Ledger(tmp_path / "copy", other, anywhere.base_recipe, anywhere.manifest)
    assert rebuild(copied) == len(anywhere.events())
    assert seen(copied) == first
