"""A strategy on the virtual clock: every training once, every second charged, decisions by the real rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_trials import END, EPOCHS, SECONDS, START, make_recorded_table

from study.replay.simulation import simulate
from study.replay.strategies import Strategy, choose_strategies
from study.replay.table import Table

WHOLE = START + EPOCHS * SECONDS + END


def strategy(rule: str, table: Table, sampler: str = "random") -> Strategy:
    return choose_strategies(table.study, [sampler], [rule])[-1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), workers=st.integers(1, 5))
def test_without_a_rule_all_trainings_end_and_their_seconds_are_all_that_is_charged(seed: int, workers: int) -> None:
    table = make_recorded_table(9)
    trace = simulate(table, Strategy("random"), seed, workers)
    assert sorted(found.training.configuration for found in trace.found) == table.configurations
    assert trace.compute == pytest.approx(9 * WHOLE)
    assert trace.seconds == pytest.approx(WHOLE * -(-9 // workers))
    assert trace.pruned == 0


@pytest.mark.parametrize("rule", ["none", "asha", "asha-promote", "median", "top"])
def test_every_training_is_tried_once_and_the_same_seed_finds_the_same(rule: str) -> None:
    table = make_recorded_table(12)
    once, again = (simulate(table, strategy(rule, table), 3, 2) for _ in range(2))
    assert once == again
    assert once.pruned + len(once.found) == 12
    assert len({found.training.configuration for found in once.found}) == len(once.found)


def test_a_trial_that_is_stopped_costs_its_epochs_alone() -> None:
    table = make_recorded_table(12)
    trace = simulate(table, strategy("asha", table), 0, 1)
    assert trace.pruned
    cheapest, dearest = START + SECONDS, START + 2 * SECONDS  # rungs after epochs 1 and 2
    stopped = trace.compute - len(trace.found) * WHOLE
    assert cheapest * trace.pruned <= stopped <= dearest * trace.pruned + 1e-6


def test_the_best_fifth_after_one_epoch_continues_and_pays_its_start_again() -> None:
    table = make_recorded_table(10)
    trace = simulate(table, strategy("top", table), 0, 2)
    assert sorted(found.training.configuration for found in trace.found) == [0, 1]
    assert trace.compute == pytest.approx(10 * (START + SECONDS) + 2 * (START + (EPOCHS - 1) * SECONDS + END))


def test_a_study_sees_one_seed_of_each_configuration_or_all_of_them() -> None:
    table = make_recorded_table(6, seeds=3)
    assert len(simulate(table, Strategy("random"), 0, 2).found) == 6
    assert len(simulate(table, Strategy("random"), 0, 2, every_seed=True).found) == 18
    chosen = {
        tuple(found.training.record.number for found in simulate(table, Strategy("random"), s, 1).found)
        for s in range(5)
    }
    assert len(chosen) == 5


def test_tpe_comes_to_the_best_sooner_than_chance() -> None:
    table = make_recorded_table(30)

    def find_rank(sampler: str) -> float:
        ranks = []
        for seed in range(4):
            found = simulate(table, Strategy(sampler), seed, 1).found
            ranks.append([trial.training.configuration for trial in found].index(0))
        return sum(ranks) / len(ranks)

    assert find_rank("tpe") < find_rank("random")
