"""Recipes that break: the three records tell why, the search goes on, and what breaks every recipe stops the study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from chaos.faults import FOLDER
from chaos.planted_training import EPOCH, MENDED, POISONED, STEP
from chaos.records import assert_records_agree
from conftest import MINIATURE
from stub_training import RAISES, REFUSED, SUCCEEDS, TOO_LARGE

from model.data.corpus import Corpus
from model.training.broken_batch import read_broken_batch
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work
from study.tracking.mlflow_runs import NUMBER
from study.tracking.mlflow_store import client_of
from study.tracking.run_content import REASON, STATE

MENDABLE = Work("chaos.planted_training:until_mended", "stub_training:prepare")
POISON = Work("chaos.planted_training:poisoned", "model.training.prepare:prepare")


NOTHING_LEFT = "no training utterance is left"


def grid_of(*seeds: int) -> dict[str, Any]:
    """One trial for each of these kinds of training."""
    return {"search": {"sampler": "grid", "recipe": {"training.seed": {"choice": list(seeds)}}}, "trials": len(seeds)}


def by_seed() -> dict[int, TrialRecord]:
    return {record.values["training.seed"]: record for record in Ledger.open(FOLDER).trials.values()}


def assert_told_everywhere(record: TrialRecord) -> None:
    """TrialState and reason in MLflow, state in Optuna, are the ledger's."""
    storage = f"sqlite:///{FOLDER}/optuna.db"
    (told,) = (
        trial
        for trial in optuna.load_study(study_name="probe", storage=storage).trials
        if trial.number == record.number
    )
    assert told.user_attrs["state"] == record.state.value
    client = client_of(f"sqlite:///{FOLDER.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("probe").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`{NUMBER}` = '{record.number}'")
    assert (run.data.tags[STATE], run.data.tags[REASON]) == (record.state.value, record.reason)


def test_a_model_too_large_is_infeasible_in_every_record_and_the_search_goes_on(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study(**grid_of(TOO_LARGE, SUCCEEDS))
    said = decred_study("run", path.name)
    assert said.code == 0, said
    trials = by_seed()
    assert trials[SUCCEEDS].state is TrialState.COMPLETE
    assert trials[TOO_LARGE].state is TrialState.INFEASIBLE
    assert trials[TOO_LARGE].reason == "OutOfMemoryError: one utterance does not fit"
    assert_records_agree(FOLDER)
    assert_told_everywhere(trials[TOO_LARGE])


@pytest.mark.parametrize(
    ("seed", "state", "reason"),
    [
        pytest.param(REFUSED, TrialState.INFEASIBLE, f"UserError: {NOTHING_LEFT}", marks=pytest.mark.chaos),
        (RAISES, TrialState.FAILED, "ValueError: of two lines"),
    ],
)
def test_what_breaks_every_recipe_stops_the_study_with_its_count_and_setting_and_once_mended_it_goes_on(
    seed: int, state: TrialState, reason: str, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.seed": seed}, trials=6, failures={"same_error_stops": 3})
    said = decred_study("run", path.name, work=MENDABLE)
    assert said.code == 1, said
    assert said.err == ""
    assert said.out.splitlines()[-1] == (
        f"stopped: 3 trials in a row broke with {reason} (failures.same_error_stops 3). "
        "Mend it, then go on with: decred-study run study.yaml"
    )
    stopped = Ledger.open(FOLDER).trials
    assert [(record.state, record.reason) for record in stopped.values()] == [(state, reason)] * 3
    assert_records_agree(FOLDER)
    assert_told_everywhere(stopped[2])

    Path(MENDED).touch()
    said = decred_study("run", path.name, work=MENDABLE)
    assert said.code == 0, said
    trials = Ledger.open(FOLDER).trials
    assert [record.state for record in trials.values()] == [state] * 3 + [TrialState.COMPLETE] * 3
    assert {number: trials[number] for number in stopped} == stopped
    assert_records_agree(FOLDER)


def test_a_nan_at_one_step_fails_its_trial_alone_which_names_the_step_and_keeps_the_batch(
    corpus: Corpus, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study(MINIATURE, **grid_of(POISONED, 3))
    said = decred_study("run", path.name, work=POISON)
    assert said.code == 0, said
    trials = by_seed()
    assert (trials[3].state, len(trials[3].epochs)) == (TrialState.COMPLETE, 2)
    failed = trials[POISONED]
    assert (failed.state, len(failed.epochs)) == (TrialState.FAILED, 1)
    place = f"at epoch {EPOCH}, step {STEP}"
    assert failed.reason == (
        f"NonFiniteLossError: loss nan, gradient norm nan {place}: training cannot go on from here; "
        "its batch is in broken-batch-0.json"
    )
    kept = Ledger.open(FOLDER).trial_folder(failed.number) / "broken-batch-0.json"
    facts = json.loads(kept.read_text())
    assert (facts["epoch"], facts["step"], facts["recipe"]) == (EPOCH, STEP, failed.recipe_hash)
    assert all(part.features[:, 5].isnan().all() for part in read_broken_batch(kept))
    assert_records_agree(FOLDER)
    assert_told_everywhere(failed)
