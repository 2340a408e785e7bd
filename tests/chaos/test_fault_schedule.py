from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaos import fault_results, fault_run
from chaos.fault_actions import FAULTS
from chaos.fault_results import SeedResult, Tally, choose_seeds, claim_seed, keep_result, read_results, summarise
from chaos.fault_schedule import (
    CPUS,
    FILE,
    NEEDS_NO_BUDGET,
    SERVER,
    Fault,
    Scenario,
    draw_scenario,
    parse_faults,
    parse_seeds,
    shrink,
)

from cluster.resources import Node
from study.config.study_file import StudyFile
from study.evidence.rungs import runs_to_its_end
from study.execution.checks import max_concurrent_trials

KINDS = [(kind, needs, weight) for kind, (_, needs, weight) in FAULTS.items()]
SEEDS = range(400)


def test_a_seed_always_draws_the_same_faults_and_their_text_is_read_back() -> None:
    for seed in SEEDS:
        scenario = draw_scenario(seed, KINDS)
        assert scenario == draw_scenario(seed, KINDS)
        assert tuple(parse_faults(" ".join(map(str, scenario.faults)))) == scenario.faults
        assert 2 <= len(scenario.faults) <= 5


def test_every_kind_is_drawn_and_only_where_its_tracking_is() -> None:
    drawn = [draw_scenario(seed, KINDS) for seed in SEEDS]
    assert {fault.kind for scenario in drawn for fault in scenario.faults} == set(FAULTS)
    for scenario in drawn:
        needs = {FAULTS[fault.kind][1] for fault in scenario.faults} - {None}
        assert needs <= ({FILE} if scenario.tracking == FILE else {SERVER}), scenario


def test_about_one_study_of_four_asks_a_question_and_under_evidence_some_trials_may_be_stopped() -> None:
    drawn = [scenario for scenario in (draw_scenario(seed, KINDS) for seed in SEEDS) if not scenario.is_real]
    assert 0.2 < sum(scenario.asks for scenario in drawn) / len(drawn) < 0.3
    for scenario in drawn:
        study = StudyFile.model_validate(scenario.make_study("/speech", "studies", None, {}))
        assert bool(study.classes) == scenario.asks
        numbers = range(1 + study.trials)  # the baseline has the first one
        if scenario.rule == "evidence":
            assert sum(not runs_to_its_end(number, study.early_stopping.complete_first) for number in numbers) >= 3


def test_about_one_study_of_four_has_a_budget_and_no_clock_is_moved_in_one() -> None:
    drawn = [draw_scenario(seed, KINDS) for seed in SEEDS]
    with_budget = [scenario for scenario in drawn if scenario.budget is not None]
    assert 0.2 < len(with_budget) / len(drawn) < 0.3
    assert not {fault.kind for scenario in with_budget for fault in scenario.faults} & NEEDS_NO_BUDGET


def test_every_number_of_workers_is_drawn_with_every_number_of_trials_at_the_same_time() -> None:
    drawn = {(scenario.workers, scenario.concurrent_trials) for scenario in (draw_scenario(s, KINDS) for s in SEEDS)}
    assert drawn == {(workers, trials) for workers in (1, 2) for trials in (1, 2, 3)}


def test_what_is_drawn_is_a_valid_study() -> None:
    for seed in SEEDS:
        scenario = draw_scenario(seed, KINDS)
        study = StudyFile.model_validate(scenario.make_study("/speech", "studies", None, {}))
        assert study.trials == scenario.trials
        assert study.workers.count * study.workers.cpus == (1.0 if scenario.concurrent_trials <= CPUS else 0.6)
        assert max_concurrent_trials(study, [Node(CPUS, 0.0)]) == scenario.concurrent_trials


def test_text_that_is_no_fault_is_refused() -> None:
    assert parse_faults("fill_disk@7,kill_driver@3+0.5") == [Fault(3, 0.5, "kill_driver"), Fault(7, 0.0, "fill_disk")]
    with pytest.raises(ValueError, match=r"^'kill_driver' is no fault; write KIND@EPOCHS or KIND@EPOCHS\+SECONDS$"):
        parse_faults("kill_driver")


def test_a_failing_list_is_shortened_to_the_faults_without_which_it_passes() -> None:
    scenario = draw_scenario(1, KINDS).with_faults([Fault(epochs, 0.0, "kill_driver") for epochs in range(5)])
    tried: list[str] = []

    def find_error(shorter: Scenario, name: str) -> str | None:
        tried.append(name)
        return "two of them" if {1, 3} <= {fault.epochs for fault in shorter.faults} else None

    shortest, error = shrink(find_error, scenario, "all of them")
    assert ([fault.epochs for fault in shortest.faults], error) == ([1, 3], "two of them")
    assert len(set(tried)) == len(tried) == 5


def test_seeds_that_passed_with_this_code_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_results, "RESULTS", tmp_path)
    keep_result(
        SeedResult(3, True, "kill_driver@3+0", 60.0, tally=Tally(("kill_driver",), sessions=2, processes=2, ended=5))
    )
    tally = Tally(
        ("fill_disk", "fill_disk", "steer"),
        ("kill_worker",),
        ("asha", "asha"),
        sessions=4,
        processes=5,
        orders=2,
        answered=1,
        ended=6,
        lost=1,
    )
    keep_result(SeedResult(4, False, "fill_disk@7+0", 60.0, "AssertionError: lost\nmore", tally))
    assert choose_seeds(parse_seeds("3-5,9")) == [4, 5, 9]
    assert summarise(read_results()) == [
        "2 seeds in 2 minutes: 1 passed, 1 failed",
        "seed 4: fill_disk@7+0: AssertionError: lost",
        "4 faults struck, 1 found nothing to strike, and people gave 2 commands, of which 1 were carried out at once; "
        "6 sessions, for which 7 processes were started; 11 trials ended, 1 of them lost or doubled",
        "trials stopped early: 2 by asha",
        "  fill_disk               2",
        "  kill_driver             1",
        "  steer                   1",
    ]
    monkeypatch.setattr(fault_results, "hash_code", lambda: "other-code")
    assert choose_seeds([3]) == [3]


def test_a_seed_that_passes_after_it_failed_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_results, "RESULTS", tmp_path)
    for passed in (False, False, True):
        keep_result(SeedResult(3, passed, "", 60.0))
    assert summarise(read_results())[:2] == [
        "1 seeds in 1 minutes: 1 passed, 0 failed",
        "seed 3 passed after 2 failures",
    ]


def test_a_seed_is_run_by_one_process_at_a_time_and_not_again_after_it_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_results, "RESULTS", tmp_path)
    with claim_seed(3) as first, claim_seed(3) as second, claim_seed(4) as other:
        assert (first, second, other) == (True, False, True)
        keep_result(SeedResult(3, True, "", 1.0))
    with claim_seed(3) as again, claim_seed(4) as free:
        assert (again, free) == (False, True)


def test_a_driver_that_prints_nothing_for_long_is_given_up_and_one_that_prints_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fault_run, "PATIENCE", 0.2)
    driver: Any = SimpleNamespace(output="")
    patience = fault_run.Patience(driver)
    for _ in range(6):
        time.sleep(0.1)
        driver.output += "trial 0000 epoch 1/3\n"
        patience.check("it did not end")
    time.sleep(0.25)
    with pytest.raises(AssertionError, match=r"^it did not end in 0.2 s:\ntrial 0000"):
        patience.check("it did not end")
