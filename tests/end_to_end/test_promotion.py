"""A study with `asha-promote`: every trial pauses at the rungs, the best continue, and one is trained to its end."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import stub_training
from rich.console import Console

from study.ledger.events import TrialEpoch, TrialPaused, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study


def test_the_best_trials_of_a_rung_continue_from_their_pause_and_the_others_are_pruned(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(
        recipe={"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.VARIES}},
        search={"sampler": "random", "seed": 3, "ctc_weight": {"uniform": [0.1, 0.6]}},
        trials=6,
        baselines=[],
        early_stopping={"rule": "asha-promote", "grace_epochs": 1, "reduction": 2},
    )
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    ledger = Ledger.open(Path("studies/probe"))
    trials, events = ledger.trials, ledger.log.read()
    by_value = sorted(trials, key=lambda number: trials[number].values["ctc_weight"])
    reached = {number: len(trials[number].epochs) for number in trials}
    assert len(trials) == 6
    assert trials[by_value[0]].state is TrialState.COMPLETE
    assert reached[by_value[0]] == 4
    assert [report.epoch for report in trials[by_value[0]].epochs] == [1, 2, 3, 4]
    assert trials[by_value[-1]].state is TrialState.PRUNED
    assert trials[by_value[-1]].reason == "others of its rung were better"
    assert all(epochs >= 1 for epochs in reached.values())
    pauses = Counter(event.number for event in events if isinstance(event, TrialPaused))
    assert pauses, "no trial was paused"
    resumed = [number for number in pauses if reached[number] > 1]
    assert resumed, "no paused trial was promoted"
    starts = Counter(event.number for event in events if isinstance(event, TrialStarted))
    assert all(starts[number] == 1 + pauses[number] - (trials[number].state is TrialState.PRUNED) for number in trials)
    reports = Counter((event.number, event.epoch) for event in events if isinstance(event, TrialEpoch))
    assert set(reports.values()) == {1}, "an epoch was trained twice"
