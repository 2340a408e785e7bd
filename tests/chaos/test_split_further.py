"""A worker of two runs out of memory in a step: its trial goes on in more parts, with a new group of workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.epoch_order import assert_trained_once, read_events, reported_epochs
from chaos.faults import FOLDER
from chaos.records import assert_records_agree
from conftest import MINIATURE

from study.ledger.event_log import EventLog
from study.ledger.events import TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

pytestmark = pytest.mark.chaos
IN_LITTLE_MEMORY = Work("chaos.planted_training:train_in_little_memory", "model.training.prepare:prepare")
VALUES = {"data.batch_seconds": 20.0, "data.buckets": 1, "training.epochs": 2, "training.epoch_steps": 2}


def test_a_trial_goes_on_in_more_parts_from_its_checkpoint_and_no_retry_is_counted(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    workers = {"count": 2, "cpus": 1, "concurrent_trials": 1}
    # Not one retry is allowed: a lost worker would fail the trial.
    path = plain_study(MINIATURE | VALUES, trials=1, workers=workers, failures={"retries": 0})
    result = decred_study("run", path.name, work=IN_LITTLE_MEMORY)
    assert result.code == 0, result
    ledger = Ledger.open(FOLDER)
    (record,) = ledger.trials.values()
    assert (record.state, record.retries, record.retries_here) == (TrialState.COMPLETE, 0, 0), record.reason
    splits = read_events(FOLDER, TrialRetried)
    assert [(event.in_more_parts, event.count, event.setting) for event in splits] == [(True, 0, "")] * len(splits)
    first = (
        "out of memory at epoch 2, step 1 on worker 1 of 2 (CUDA out of memory); the training that is started again "
    )
    first += "goes on from its last checkpoint, with batches of such lengths in 2 parts"
    assert splits[0].reason == first
    (needed,) = json.loads((ledger.trial_folder(0) / "needed-parts-1.json").read_text()).values()
    assert needed == [2 ** len(splits)], "each try got further"
    assert [report.metrics["train/accumulate"] for report in record.epochs] == [1.0, float(needed[0])]
    assert reported_epochs(FOLDER, 0) == [1, 2]
    assert_trained_once(EventLog(FOLDER).read())
    assert_records_agree(FOLDER)
