"""Recipes that break: both records have the reason, the search continues, and what breaks every recipe stops it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.epoch_order import assert_trained_once
from chaos.faults import FOLDER
from chaos.planted_training import CORRECTED, EPOCH, NAN_SEED, STEP
from chaos.records import assert_records_agree
from conftest import MINIATURE
from stub_training import RAISES, REFUSED, SUCCEEDS, TOO_LARGE

from model.corpora.corpus import Corpus
from model.training.broken_batch import read_broken_batch
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work

pytestmark = pytest.mark.chaos
CORRECTABLE = Work("chaos.planted_training:train_until_corrected", "stub_training:prepare")
WITH_NAN = Work("chaos.planted_training:train_with_nan", "model.training.prepare:prepare")
NOTHING_LEFT = "no training utterance is left"


def grid_of(*seeds: int) -> dict[str, Any]:
    """One trial for each of these kinds of training."""
    return {"search": {"sampler": "grid", "recipe": {"training.seed": {"choice": list(seeds)}}}, "trials": len(seeds)}


def trials_by_seed() -> dict[int, TrialRecord]:
    return {record.values["training.seed"]: record for record in Ledger.open(FOLDER).trials.values()}


def test_a_model_too_large_is_infeasible_in_both_records_and_the_search_continues(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study(**grid_of(TOO_LARGE, SUCCEEDS))
    result = decred_study("run", path.name)
    assert result.code == 0, result
    trials = trials_by_seed()
    assert trials[SUCCEEDS].state is TrialState.COMPLETE
    assert trials[TOO_LARGE].state is TrialState.INFEASIBLE
    assert trials[TOO_LARGE].reason == "OutOfMemoryError: one utterance does not fit"
    assert_records_agree(FOLDER)


@pytest.mark.parametrize(
    ("seed", "state", "reason"),
    [
        (REFUSED, TrialState.INFEASIBLE, f"UserError: {NOTHING_LEFT}"),
        (RAISES, TrialState.FAILED, "ValueError: of two lines"),
    ],
)
def test_what_breaks_every_recipe_stops_the_study_with_its_count_and_setting_and_once_corrected_it_continues(
    seed: int, state: TrialState, reason: str, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.seed": seed}, trials=6, failures={"same_error_stops": 3})
    result = decred_study("run", path.name, work=CORRECTABLE)
    assert result.code == 1, result
    assert result.err == ""
    assert result.out.splitlines()[-1] == (
        f"stopped: 3 trials in a row failed with {reason} (failures.same_error_stops 3). "
        "Correct it, then continue with: decred-study run study.yaml"
    )
    stopped = Ledger.open(FOLDER).trials
    assert [(record.state, record.reason) for record in stopped.values()] == [(state, reason)] * 3
    assert_records_agree(FOLDER)

    Path(CORRECTED).touch()
    result = decred_study("run", path.name, work=CORRECTABLE)
    assert result.code == 0, result
    ledger = Ledger.open(FOLDER)
    trials = ledger.trials
    assert [record.state for record in trials.values()] == [state] * 3 + [TrialState.COMPLETE] * 3
    assert {number: trials[number] for number in stopped} == dict(stopped)
    assert_trained_once(ledger.log.read())
    assert_records_agree(FOLDER)


def test_too_many_batches_that_are_not_finite_fail_their_trial_alone_which_names_the_step_and_keeps_the_batch(
    corpus: Corpus, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study(MINIATURE | {"training.skips_in_a_row": 1}, **grid_of(NAN_SEED, 3))
    result = decred_study("run", path.name, work=WITH_NAN)
    assert result.code == 0, result
    trials = trials_by_seed()
    assert (trials[3].state, len(trials[3].epochs)) == (TrialState.COMPLETE, 2)
    failed = trials[NAN_SEED]
    assert (failed.state, len(failed.epochs)) == (TrialState.FAILED, 1)
    place = f"at epoch {EPOCH}, step {STEP}"
    assert failed.reason == (
        f"NonFiniteLossError: loss nan, gradient norm nan {place}: a batch was skipped "
        "(training.skips_in_a_row 1); its batch is in broken-batch-0.json"
    )
    ledger = Ledger.open(FOLDER)
    kept = ledger.trial_folder(failed.number) / "broken-batch-0.json"
    facts = json.loads(kept.read_text())
    assert (facts["epoch"], facts["step"], facts["recipe"]) == (EPOCH, STEP, failed.recipe_hash)
    assert all(part.features[:, 5].isnan().all() for part in read_broken_batch(kept))
    assert_trained_once(ledger.log.read())
    assert_records_agree(FOLDER)
