"""A study with a budget, through the real runner: it is never passed, and a larger one continues the study."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from study.display.status import print_status
from study.ledger.budget_events import SEARCH
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

FOLDER = Path("studies/probe")
SECONDS = 1 / 3600  # in hours
SETTINGS: dict[str, Any] = {"trials": 400, "early_stopping": {"rule": "none"}}


def run(path: Path, stub: Work) -> str:
    """Run the study to its end; what it printed."""
    console = Console(file=io.StringIO(), width=200)
    code = run_study(path, console=console, work=stub)
    output: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert code == 0, output
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
