"""The trials that are left, counted from the records alone, are those that the study's driver has to run."""

from __future__ import annotations

from typing import Any

import pytest
from open_session import TINY
from simulated_budget import Simulation, make_study

from study.config.study_file import StudyFile
from study.ledger.events import ControlGiven
from study.ledger.open_parts import list_open
from study.ledger.trials import Trials
from study.search.proposer import Proposer
from study.search.trials_left import count_left

GRID = {"ctc_weight": {"uniform": [0.1, 0.6]}, "sampler": "grid", "grid_points": 5}
BOTH = {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 1]}}
QUESTION: dict[str, Any] = {"question": "decred against ed", "baselines": ["ed", "decred-paper"]}
STUDIES = {
    "sampled": make_study(None, trials=4),
    "a grid that ends first": make_study(None, search=GRID),
    "a grid that does not": make_study(None, trials=3, search=GRID),
    "grids of two classes": make_study(None, search={**GRID, **BOTH}, confirmation={"seeds": 0}, **QUESTION),
    "confirmed": make_study(None, trials=4, search={**BOTH, "sampler": "random"}, **QUESTION),
    "promoted": make_study(None, trials=9, early_stopping={"rule": "asha-promote", "grace_epochs": 1}),
    "a budget": make_study({"hours": 0.3}, trials=40),
    "a budget, confirmed": make_study({"hours": 1.0}, search={**BOTH, "sampler": "random"}, **QUESTION),
}


def count_by_proposals(study: StudyFile, trials: Trials) -> int:
    """What the driver counts."""
    proposer = Proposer(study, TINY, lambda record: TINY)
    proposals = proposer.count_remaining(trials) + proposer.count_confirmations(trials)
    return proposals + len(list_open(trials, study))


@pytest.mark.parametrize("name", STUDIES)
def test_they_are_as_many_as_the_driver_counts_at_any_time(name: str) -> None:
    study = STUDIES[name]
    counts = []
    for until in (0.0, 1100.0, 1300.0, 1600.0, 2200.0, 3000.0, 4000.0, float("inf")):
        trials = Simulation(study, slots=2).run(until).trials
        counts.append(count_left(study, TINY, trials))
        assert counts[-1] == count_by_proposals(study, trials), until
    assert counts[0] > counts[2] > counts[-1] == 0


@pytest.mark.parametrize("name", ["sampled", "a grid that ends first", "confirmed"])
def test_orders_change_them_as_they_change_what_the_driver_counts(name: str) -> None:
    study, trials = STUDIES[name], Simulation(STUDIES[name], slots=2).run(1300.0).trials
    counts = [count_left(study, TINY, trials)]
    for command, value in (("set", "trials=5"), ("enqueue", TINY.model_dump_json()), ("set", "trials=0")):
        trials.apply(ControlGiven(time=1300.0, who="me", command=command, value=value, id=f"{command} {value}"))
        counts.append(count_left(study, TINY, trials))
        assert counts[-1] == count_by_proposals(study, trials)
    assert counts[2] == counts[1] + 1 > counts[3] + 1
