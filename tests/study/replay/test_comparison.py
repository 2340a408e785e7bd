"""Strategies compared: compute to the target, regret at equal compute, their intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded_trials import EPOCHS, make_recorded_table
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.main import app
from study.display.replay import describe, to_json
from study.replay.comparison import compare_strategies
from study.replay.strategies import Strategy, choose_strategies

DEMO = Path(__file__).parents[2] / "benchmarks" / "records" / "demo.jsonl.gz"


def test_the_first_strategy_is_the_measure_of_the_others() -> None:
    table = make_recorded_table(16)
    compared = compare_strategies(table, choose_strategies(table.study, ["random"], ["none", "asha"]), 10)
    first, asha = compared.outcomes
    assert (first.compute, first.speedup, first.speedup_interval) == (pytest.approx(1.0), 1.0, (1.0, 1.0))
    assert first.regrets[-1].mean == 0.0, "everything was tried, and seeds agree"
    assert asha.compute < 0.7
    assert asha.speedup > 1.0, "early figures rank these trials as the last ones do"
    low, high = asha.to_target_interval
    assert low <= asha.to_target <= high


def test_a_rule_that_stops_by_noise_never_comes_to_the_target() -> None:
    """At the first epoch the order is the reverse of the last one's."""
    table = make_recorded_table(16, curve=lambda weight, _, epoch: {"dev/wer": weight if epoch == EPOCHS else -weight})
    _, top = compare_strategies(table, choose_strategies(table.study, ["random"], ["none", "top"]), 10).outcomes
    assert top.to_target == float("inf")
    assert top.speedup == 0.0
    assert (
        to_json(compare_strategies(table, [Strategy("random", top_epoch=1)], 2))["outcomes"][0]["to_target"] is not None
    )


def test_a_single_seeds_luck_is_no_find() -> None:
    """Of the best configuration by its own seed, the other seeds are bad."""

    def curve(weight: float, seed: int, _: int) -> dict[str, float]:
        return {"dev/wer": 50.0 if weight else 100.0 * seed}

    table = make_recorded_table(4, seeds=2, curve=curve)
    (outcome,) = compare_strategies(table, [Strategy("random")], 20).outcomes
    assert outcome.regrets[-1].mean > 20


def test_unknown_samplers_and_rules_are_refused_by_their_names() -> None:
    study = make_recorded_table().study
    with pytest.raises(UserError, match=r"^--rule is 'ashe', which cannot be replayed; did you mean 'asha'\?$"):
        choose_strategies(study, rules=["ashe"])
    with pytest.raises(UserError, match=r"^--sampler is 'grid', which cannot be replayed; "):
        choose_strategies(study, ["grid"])


def test_the_usual_strategies_start_with_everything_to_its_end_and_have_every_rule() -> None:
    names = [strategy.name for strategy in choose_strategies(make_recorded_table().study)]
    assert names[:3] == ["random to the end", "random + top fifth of epoch 1", "tpe to the end"]
    assert {"tpe + asha", "tpe + asha-promote", "tpe + median"} <= set(names)


def test_the_command_replays_a_packed_record_as_tables_and_as_json() -> None:
    command = ["replay", str(DEMO), "--seeds", "2", "--sampler", "random", "--rule", "asha"]
    printed = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "random + asha" in printed
    assert "100%" in printed
    assert "\\" not in printed, "brackets are markup to rich"
    assert "82 configurations with 104 trainings; 2 replays of each strategy, 2 trials at a time" in printed
    content = json.loads(CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout)
    assert [outcome["strategy"] for outcome in content["outcomes"]] == ["random to the end", "random + asha"]
    assert content["seeds"] == 2


def test_the_lines_below_the_tables_name_the_target_and_the_best() -> None:
    lines = describe(compare_strategies(make_recorded_table(), [Strategy("random")], 2))
    assert lines[-1].startswith(
        "regret: dev/wer of the other seeds of the best configuration so far, less 0.00, the best"
    )
