"""What `status` prints for people agrees with what it gives scripts."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from open_session import TINY
from rich.console import Console
from simulated_budget import make_study

from study.display.status import print_status
from study.display.status_json import make_status
from study.ledger.events import SessionStarted, StudyInterrupted, TrialEpoch, TrialStarted
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger

HOUR = 3600.0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A study with a budget, whose session began a moment ago with one trial of one CPU."""
    ledger = Ledger.create_or_open(tmp_path / "s", make_study({"hours": 10, "cpu_hours": 20}), TINY, {"id": "abc"})
    ledger.start_session(5, 2)
    ledger.append(TrialStarted(number=0, epochs=2))
    return ledger


def find_began(ledger: Ledger) -> float:
    assert ledger.trials.session is not None
    return ledger.trials.session.time


def read_hours(ledger: Ledger, now: float) -> tuple[float, float]:
    """Hours and CPU-hours that `status` prints as used."""
    console = Console(file=io.StringIO(), width=200)
    print_status(ledger, Path("s.yaml"), console, now=now)
    found = re.search(r"budget: hours (\S+) of 10, CPU-hours (\S+) of 20 used", console.file.getvalue())  # type: ignore[attr-defined]
    assert found is not None
    return float(found[1]), float(found[2])


def read_json_hours(ledger: Ledger, now: float) -> tuple[float, float]:
    spent = make_status(ledger, now=now)["study"]["spent"]
    return spent["hours"], spent["cpu_hours"]


def test_while_a_process_runs_the_study_its_budget_is_used_up_to_now(ledger: Ledger) -> None:
    now = find_began(ledger) + 2 * HOUR
    with hold_lease(ledger.folder):
        assert read_hours(ledger, now) == (2.0, 2.0)
        assert read_json_hours(ledger, now) == pytest.approx((2.0, 2.0), abs=0.001)


def test_of_a_study_that_no_process_runs_the_budget_is_used_up_to_its_last_event(ledger: Ledger) -> None:
    began = find_began(ledger)
    ledger.append(StudyInterrupted(time=began + HOUR))
    assert read_hours(ledger, began + 5 * HOUR) == (1.0, 1.0)
    assert read_json_hours(ledger, began + 5 * HOUR) == pytest.approx((1.0, 1.0), abs=0.001)


def test_hours_after_the_death_of_a_driver_do_not_count_while_the_next_one_prepares(ledger: Ledger) -> None:
    began = find_began(ledger)
    ledger.trials.apply(SessionStarted(time=began, process=1))  # which was killed; this process has the lease
    ledger.trials.apply(TrialStarted(time=began, number=0, epochs=2))
    ledger.trials.apply(TrialEpoch(time=began + HOUR, number=0, epoch=1))
    with hold_lease(ledger.folder):
        assert read_hours(ledger, began + 5 * HOUR) == (1.0, 1.0)
        assert read_json_hours(ledger, began + 5 * HOUR) == pytest.approx((1.0, 1.0), abs=0.001)
