"""A study with a budget, through the real runner: it is never passed, and a larger one continues the study."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_training
from rich.console import Console

from study.display.status import print_status
from study.ledger.budget_events import SEARCH
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

FOLDER = Path("studies/probe")
SECONDS = 1 / 3600  # in hours
SETTINGS: dict[str, Any] = {"trials": 400, "early_stopping": {"rule": "none"}}


def run(path: Path, stub: Work, codes: tuple[int, ...] = (0,)) -> str:
    """Run the study to its end; what it printed."""
    console = Console(file=io.StringIO(), width=200)
    code = run_study(path, console=console, work=stub)
    output: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert code in codes, output
    return output


def measure(ledger: Ledger) -> float:
    """The CPU-seconds that the study used."""
    assert ledger.study.budget is not None
    return 3600 * ledger.trials.spent.measure(ledger.study.budget, ledger.study.workers)["cpu_hours"]


@pytest.mark.chaos
def test_a_budget_ends_the_search_is_never_passed_and_a_larger_one_continues_the_study(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    # A machine that is busy may take seconds to start a trial, and then the budget is for fewer of them.
    output = run(study_in(**SETTINGS, budget={"cpu_hours": 40 * SECONDS}), stub)
    ledger = Ledger.open(FOLDER)
    used, tried = measure(ledger), len(ledger.trials)
    assert used <= 40
    assert 1 <= tried < 400
    assert ledger.trials.budget_reached.keys() == {SEARCH}
    assert "it has no room for another trial after" in output
    print(f"{used:.1f} of 40 CPU-seconds used, {tried} trials")
    assert ledger.trials[0].has_tests, "the best trial's test sets are scored within the budget"
    before = [file.read_bytes() for file in ledger.log.files()]
    assert "it has no room for another trial after" in run(Path("study.yaml"), stub)
    assert [file.read_bytes() for file in Ledger.open(FOLDER).log.files()] == before, "it was run again"

    larger = {"cpu_hours": 10 * SECONDS * used + 100 * SECONDS}
    run(study_in(**SETTINGS | {"trials": tried + 1}, budget=larger), stub)
    ledger = Ledger.open(FOLDER)
    assert used < measure(ledger) <= 3600 * larger["cpu_hours"]
    assert len(ledger.trials) == tried + 2, "the number of trials ends the search now"
    assert {record.state for record in ledger.trials.values()} == {TrialState.COMPLETE}
    console = Console(file=io.StringIO(), width=200)
    print_status(ledger, Path("study.yaml"), console)
    assert f"budget: CPU-hours {measure(ledger) / 3600:.3g} of {larger['cpu_hours']:g} used" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.chaos
def test_trials_that_wait_at_a_rung_when_the_budget_ends_are_promoted_or_pruned_with_a_larger_one(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    settings: dict[str, Any] = {
        "recipe": {"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.VARIES}},
        "early_stopping": {"rule": "asha-promote", "grace_epochs": 1, "reduction": 2},
        "baselines": [],
        "trials": 400,
        "score_tests": "none",
    }
    for budget in (60, 240, 960):  # on a busy machine the first ones may end in a first trial: with exit code 1
        output = run(study_in(**settings, budget={"cpu_hours": budget * SECONDS}), stub, codes=(0, 1))
        ledger = Ledger.open(FOLDER)
        waiting = [number for number, record in ledger.trials.items() if record.state is TrialState.WAITING]
        if waiting and ledger.trials.has_ended:
            break
    used, tried = measure(ledger), len(ledger.trials)
    print(f"{used:.1f} of {budget} CPU-seconds used, {tried} trials, of which {len(waiting)} wait")
    assert ledger.trials.study_state is TrialState.COMPLETE
    assert re.search(rf"{len(waiting)} trials? waits? at (its|their) rungs?, and with it the best of a rung", output)

    larger = {"cpu_hours": 10 * SECONDS * used + 100 * SECONDS}
    run(study_in(**settings | {"trials": tried + 1}, budget=larger), stub)
    trials = Ledger.open(FOLDER).trials
    assert len(trials) == tried + 1
    assert {record.state for record in trials.values()} == {TrialState.COMPLETE, TrialState.PRUNED}
