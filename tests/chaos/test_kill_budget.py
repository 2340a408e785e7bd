"""kill -9 of a study with a budget: what ran until then counts, and the budget is never passed."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.study_process import StudyProcess, start_study, wait_until
from rich.console import Console

from study.ledger.ledger import Ledger
from study.runner import Work, run_study

BUDGET = 150.0  # CPU-seconds
STUDY = Path("studies/probe")
KILLS = 4


def measure() -> float:
    """The CPU-seconds that the study has used."""
    ledger = Ledger.open(STUDY)
    assert ledger.study.budget is not None
    return 3600 * ledger.trials.spent.measure(ledger.study.budget, ledger.study.workers)["cpu_hours"]


@pytest.mark.chaos
def test_a_budget_is_never_passed_whenever_the_study_is_killed(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(trials=2000, early_stopping={"rule": "none"}, budget={"cpu_hours": BUDGET / 3600})
    chance, before = random.Random(3), 0.0
    for _ in range(KILLS):
        with start_study() as run:
            _wait_for_epochs(run, chance.randint(1, 4))
            time.sleep(chance.uniform(0.0, 2.5))
            run.kill()  # a machine that is busy takes so long to start trials that the budget may be used up before
        used = measure()
        assert before <= used <= BUDGET
        before = used
    assert before > 0
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "it has no room for another trial after" in output
    print(f"{measure():.1f} of {BUDGET:g} CPU-seconds used, {len(Ledger.open(STUDY).trials)} trials")
    assert before <= measure() <= BUDGET


def _wait_for_epochs(run: StudyProcess, count: int) -> None:
    """Until it has reported so many, or has ended."""
    wait_until(lambda: run.output.count(" epoch ") >= count or run.process.poll() is not None, run, "it never trained")
