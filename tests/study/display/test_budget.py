"""The line that `status`, the live board and the end of a run show of the budget."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from simulated_budget import Simulation, make_study

from study.config.study_file import StudyFile
from study.display.board import Board
from study.display.budget import describe_budget, measure_use
from study.execution.budget_check import check_plan
from study.execution.plan import Plan
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


def test_the_live_board_has_the_line_below_its_table() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    console.print(Board(console, "probe", {}, 3, describe_budget=lambda: ["budget: hours 1 of 24 used"]).render())
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
