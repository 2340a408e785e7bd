from __future__ import annotations

from pathlib import Path

import pytest
from chaos import fault_results
from chaos.fault_actions import FAULTS
from chaos.fault_results import SeedResult, choose_seeds, keep_result, read_results, summarise
from chaos.fault_schedule import FILE, SERVER, Fault, Scenario, draw_scenario, parse_faults, parse_seeds, shrink

from study.config.study_file import StudyFile

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


def test_what_is_drawn_is_a_valid_study() -> None:
    for seed in SEEDS:
        scenario = draw_scenario(seed, KINDS)
        study = StudyFile.model_validate(scenario.make_study("/speech", "studies", None, {}))
        assert study.trials == scenario.trials
        assert study.workers.count * study.workers.cpus == 1.0


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
    keep_result(SeedResult(3, True, "kill_driver@3+0", 60.0))
    keep_result(SeedResult(4, False, "fill_disk@7+0", 60.0, "AssertionError: lost\nmore"))
    assert choose_seeds(parse_seeds("3-5,9")) == [4, 5, 9]
    assert summarise(read_results()) == [
        "2 seeds in 2 minutes: 1 passed, 1 failed",
        "seed 4: fill_disk@7+0: AssertionError: lost",
    ]
    monkeypatch.setattr(fault_results, "hash_code", lambda: "other-code")
    assert choose_seeds([3]) == [3]
