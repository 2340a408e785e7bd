"""Trials that differ in decoding alone: one training, on a real Ray, with the real model."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MINIATURE
from rich.console import Console

from model.weights.chosen import read_chosen
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import run_study


@pytest.mark.slow
def test_two_trials_that_differ_in_decoding_alone_train_once_and_the_best_ones_tests_are_scored(
    ray_here: None, study_in: Callable[..., Path]
) -> None:
    path = study_in(
        recipe={"base": "tiny", "set": MINIATURE},
        search={"sampler": "grid", "recipe": {"decoding.beam": {"choice": [1, 3]}}},
        trials=2,
        baselines=[],
        workers={"count": 1, "cpus": 1},
        early_stopping={"rule": "none"},
    )
    assert run_study(path, console=Console(file=io.StringIO(), width=200)) == 0
    ledger = Ledger.open(Path("studies/probe"))
    first, second = ledger.trials.values()
    assert [first.state, second.state] == [TrialState.COMPLETE] * 2
    assert (len(first.epochs), len(second.epochs)) == (2, 0), "the second one was trained, too"
    assert (first.training_of, second.training_of) == (None, 0)
    assert first.metrics["dev/wer"] == second.metrics["dev/wer"]
    assert {"dev/wer_final", "dev/ctc_wer", "chosen_epoch"} <= first.final_metrics.keys() & second.final_metrics.keys()
    assert first.has_tests, "of equals, the first is the best"
    assert not second.has_tests
    for record in (first, second):
        folder = ledger.trial_folder(record.number)
        assert read_chosen(folder) is not None
        assert not (folder / "checkpoints").exists(), "moments of a trial that has ended are kept"
