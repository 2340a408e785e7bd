"""The line that `status`, the live board and the end of a run show of the budget."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
from rich.console import Console
from simulated_budget import Simulation, make_study

from study.config.study_file import StudyFile
from study.display.board import Board
from study.display.budget import describe_budget, find_limit, measure_use
from study.execution.budget_check import check_plan
from study.execution.plan import Plan
from study.ledger.records import TrialState
from study.ledger.trials import Trials
from study.tracking.study_content import build_study_run


def test_without_a_budget_nothing_is_shown() -> None:
    study = make_study(None)
    assert list(describe_budget(study, Trials())) == []
    assert measure_use(study, Trials()) == {}
    assert not [tag for tag in build_study_run(Trials(), "s", study=study).tags if tag.startswith("budget")]


def test_before_the_first_report_the_line_has_what_was_used() -> None:
    assert list(describe_budget(make_study({"hours": 24}), Trials())) == ["budget: hours 0 of 24 used (0 %)"]


def test_the_line_says_what_a_trial_takes_and_that_the_search_is_over_and_how_it_would_go_on() -> None:
    simulation = Simulation(make_study({"cpu_hours": 0.5}), slots=2, slow=4.0, slow_after=1600.0).run()
    (line,) = describe_budget(simulation.study, simulation.trials)
    used = simulation.used["cpu_hours"]
    assert line.startswith(
        f"budget: CPU-hours {used:.3g} of 0.5 used ({200 * used:.0f} %); a whole trial takes about 0."
    )
    sampled = len(simulation.trials) - 1
    assert f"; it has no room for another trial after {sampled} of 1000 sampled ones; a larger one has" in line
    assert "; with it trial 000" in line
    assert (
        build_study_run(simulation.trials, "s", study=simulation.study).tags["budget.cpu_hours"] == f"{used:.3g} of 0.5"
    )


def test_the_line_has_what_a_trial_takes_beside_what_is_left_and_the_trials_that_wait_at_a_rung() -> None:
    rule = {"rule": "asha-promote", "grace_epochs": 1}
    simulation = Simulation(make_study({"cpu_hours": 0.5}, trials=40, early_stopping=rule), slots=2).run()
    (line,) = describe_budget(simulation.study, simulation.trials)
    found = re.search(r"; a trial takes up to ([0-9.]+) CPU-hours, ([0-9.]+) is left", line)
    assert found is not None
    most, left = map(float, found.groups())
    assert left == pytest.approx(0.5 - simulation.used["cpu_hours"], rel=0.05)
    assert 290 / 3600 < most < 1.2 * 290 / 3600
    waiting = len(simulation.list_states(TrialState.WAITING))
    assert waiting > 1
    assert f"; {waiting} trials wait at their rungs, and with it the best of a rung would continue" in line


def test_the_seconds_to_the_end_of_the_budget_are_those_of_the_limit_that_is_reached_first() -> None:
    study = make_study({"hours": 2.0, "cpu_hours": 3.0})
    assert find_limit(study, Trials(), 1) == 2.0 * 3600
    assert find_limit(study, Trials(), 2) == 1.5 * 3600
    assert find_limit(make_study(None), Trials(), 2) == math.inf
    simulation = Simulation(study).run(until=4600.0)
    assert find_limit(study, simulation.trials, 2, simulation.now) == pytest.approx(
        min(3600 * (2.0 - simulation.used["hours"]), 3600 * (3.0 - simulation.used["cpu_hours"]) / 2)
    )


def test_the_live_board_has_the_line_below_its_table() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    board = Board(console, "probe", {}, 3, describe_budget=lambda: ["budget: hours 1 of 24 used"])
    board.show_capacity(1, None)
    console.print(board.render())
    assert "budget: hours 1 of 24 used" in console.file.getvalue()  # type: ignore[attr-defined]


def make_plan(hours: tuple[float, float], confirmations: int = 0) -> Plan:
    """The plan of 10 trials, two at a time."""
    values: dict[str, Any] = dict.fromkeys(Plan.__dataclass_fields__, 0)
    return Plan(**values | {"trials": 10, "confirmations": confirmations, "concurrency": 2, "hours": hours})


def test_the_plan_says_whether_the_budget_holds_it() -> None:
    def check(budget: dict[str, Any], plan: Plan) -> str:
        study: StudyFile = make_study(budget, trials=9, workers={"count": 2, "cpus": 3.0})
        (line,) = check_plan(study, plan)
        return line

    assert check({"hours": 5}, make_plan((1.0, 4.0))) == "budget: 5 hours, the study takes 1 to 4; all trials fit"
    assert check({"cpu_hours": 50}, make_plan((1.0, 4.0))) == (
        "budget: 50 CPU-hours, the study takes 12 to 48; all trials fit"
    )
    assert check({"hours": 3}, make_plan((1.0, 4.0))).endswith("; all trials fit if many are stopped early")
    assert check({"hours": 3}, make_plan((3.5, 4.0))).endswith("; the search ends before its 9 trials")
    assert check({"hours": 3}, make_plan((3.5, 4.0), 2)).endswith("9 trials, and finalists are confirmed")
    assert "2.4 of it to confirm finalists, which is more than half" in check({"hours": 3}, make_plan((3.5, 4.0), 15))
    assert list(check_plan(make_study(None), make_plan((1.0, 2.0)))) == []
