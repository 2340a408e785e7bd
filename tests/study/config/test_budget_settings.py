"""What a study file may say of its budget, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from study.config.budget import dump_budget
from study.config.study_file import StudyFile

CPU, GPU = {"count": 2, "cpus": 4.0}, {"count": 2, "cpus": 4.0, "gpus": 1.0}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no limit": ({}, CPU, "budget names no limit; give hours, gpu_hours, cpu_hours or cost"),
    "a limit of zero": ({"hours": 0}, CPU, "greater than 0"),
    "a cost without prices": ({"cost": 5}, CPU, r"cost is 5, but prices are missing; write .* \{gpu_hour: 2.5\}"),
    "prices without a cost": ({"hours": 1, "prices": {"gpu_hour": 2}}, CPU, "prices are given, but no cost"),
    "GPU-hours without GPUs": ({"gpu_hours": 4}, CPU, r"gpu_hours is 4, but trials have no GPUs \(workers.gpus is 0\)"),
    "a price of what is not used": (
        {"cost": 5, "prices": {"gpu_hour": 2}},
        CPU,
        "budget.cost is 5, but trials have no GPUs .* so it would never be reached",
    ),
    "no price at all": ({"cost": 5, "prices": {}}, GPU, "budget.cost is 5, but what they use has no price"),
    "an unknown limit": ({"euros": 5}, CPU, "euros"),
}


def make_study(budget: dict[str, Any] | None, workers: dict[str, Any]) -> StudyFile:
    search = {"ctc_weight": {"uniform": [0.1, 0.6]}}
    return StudyFile.model_validate(
        {"name": "s", "corpus": "/speech", "search": search, "budget": budget, "workers": workers}
    )


@pytest.mark.parametrize("fault", REFUSED)
def test_a_budget_that_could_not_hold_is_refused(fault: str) -> None:
    budget, workers, words = REFUSED[fault]
    with pytest.raises(ValidationError, match=words):
        make_study(budget, workers)


def test_a_second_of_all_workers_adds_to_each_limit_what_they_have_and_what_it_costs() -> None:
    prices = {"gpu_hour": 2.5, "cpu_hour": 0.05}
    study = make_study({"hours": 24, "gpu_hours": 400, "cpu_hours": 9, "cost": 500, "prices": prices}, GPU)
    assert study.budget is not None
    assert study.budget.limits == {"hours": 24.0, "gpu_hours": 400.0, "cpu_hours": 9.0, "cost": 500.0}
    rates = {name: 3600 * study.budget.find_rate(name, study.workers) for name in study.budget.limits}
    assert rates == pytest.approx({"hours": 1.0, "gpu_hours": 2.0, "cpu_hours": 8.0, "cost": 2 * 2.5 + 8 * 0.05})


def test_a_study_has_no_budget_by_default() -> None:
    assert make_study(None, CPU).budget is None
    assert dump_budget(None) == {}
