"""Factors of the learning rate for parts and patterns: who gets which, what is refused, what a step makes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import ALONE, assert_equal

from model.errors import UserError
from model.network.recogniser import Recogniser
from model.recipe.training import OptimiserConfig, RatesConfig
from model.training.loop import save, train_epoch
from model.training.optimiser import find_part, find_rate_factors, make_optimiser
from model.training.prepare import prepare
from model.training.run import start_or_resume

AUXILIARY = {"loss.auxiliary": {"placement": [2], "weights": [0.4]}, "data.batch_seconds": 60.0}
FIRST = ("decoder.layers.0.*", 0.25)


def list_names(make_recipe) -> list[str]:
    return [name for name, _ in Recogniser(make_recipe(AUXILIARY)).named_parameters()]


def test_each_part_has_its_factor_and_the_first_pattern_that_matches_goes_before_it(make_recipe) -> None:
    names = list_names(make_recipe)
    rates = RatesConfig(encoder=0.1, classifiers=2.0, patterns=(("decoder.layers.0.*bias", 0.5), FIRST))
    factors = find_rate_factors(names, rates)
    assert factors.keys() == set(names)
    parts = {"encoder": 0.1, "decoder": 1.0, "classifiers": 2.0, "ctc": 1.0}
    for name, factor in factors.items():
        if not name.startswith("decoder.layers.0."):
            assert factor == parts[find_part(name)], name
        else:
            assert factor == (0.5 if name.endswith("bias") else 0.25), name
    assert factors["decoder.layers.0.norm_self.bias"] == 0.5


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            [["decoder.layer.0.*", 0.5]],
            "optimiser.rates.patterns has 'decoder.layer.0.*', which no parameter of the model matches; did you mean",
        ),
        (
            [["decoder.*", 0.5], ["decoder.layers.0.*", 0.1]],
            "optimiser.rates.patterns has 'decoder.layers.0.*', but patterns before it match all of its parameters, "
            "and the first one counts; put it earlier",
        ),
    ],
)
def test_a_pattern_without_effect_is_refused_before_training_and_when_a_study_is_prepared(
    make_recipe, run_folder: Path, patterns: list[Any], message: str
) -> None:
    recipe = make_recipe({"optimiser.rates.patterns": patterns})
    with pytest.raises(UserError, match=re.escape(message)):
        prepare(recipe)
    with pytest.raises(UserError, match=re.escape(message)):
        start_or_resume(recipe, run_folder, ALONE)
    assert not run_folder.exists()


def test_the_factor_of_a_part_that_a_model_does_not_have_is_refused() -> None:
    message = "optimiser.rates.ctc is 0.5, but the model has no parameters of that part; use optimiser.rates.patterns"
    with pytest.raises(UserError, match=re.escape(message)):
        find_rate_factors(["network.weight"], RatesConfig(ctc=0.5))
    assert find_rate_factors(["network.weight"], RatesConfig(patterns=(("net*", 0.5),))) == {"network.weight": 0.5}


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (
            {"encoder": 0},
            "optimiser.rates.encoder: is 0, but must be above 0; what shall not be trained belongs into training.fre",
        ),
        ({"patterns": [["ctc.*", -1]]}, "optimiser.rates.patterns.0.1: is -1, but must be above 0"),
        (
            {"patterns": [["ctc.*", 1], ["ctc.*", 2]]},
            "patterns is ['ctc.*', 'ctc.*'], but must name each pattern once: the first one counts",
        ),
        ({"encodr": 0.1}, "unknown key 'optimiser.rates.encodr'; did you mean 'encoder'?"),
    ],
)
def test_rates_that_make_no_sense_are_refused_in_one_line(make_recipe, rates: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_recipe({"optimiser.rates": rates})


def test_without_factors_there_are_the_two_groups_that_there_were(make_recipe) -> None:
    model = Recogniser(make_recipe(AUXILIARY))
    groups = make_optimiser(model, OptimiserConfig(weight_decay=0.1)).param_groups
    assert [(group["factor"], group["weight_decay"]) for group in groups] == [(1.0, 0.1), (1.0, 0.0)]
    rates = RatesConfig(encoder=0.1, patterns=(FIRST,))
    groups = make_optimiser(model, OptimiserConfig(weight_decay=0.1, rates=rates)).param_groups
    assert {(group["factor"], group["weight_decay"]) for group in groups} == {
        (factor, decay) for factor in (0.1, 0.25, 1.0) for decay in (0.1, 0.0)
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_a_step_moves_parameters_in_proportion_to_their_factors_and_its_state_is_loaded_again(
    make_recipe, tmp_path: Path
) -> None:
    """AdamW without weight decay moves each parameter in proportion to its rate."""
    values = AUXILIARY | {"optimiser.weight_decay": 0.0, "optimiser.learning_rate": 1e-4, "training.choose": "ema"}
    values |= {"data.batch_seconds": 1e6, "data.buckets": 1, "optimiser.warmup_steps": None, "optimiser.warmup": 0.0}
    moves = []
    for name, rates in (("plain", {}), ("rates", {"encoder": 0.5, "ctc": 3.0, "patterns": [list(FIRST)]})):
        run = start_or_resume(make_recipe(values | {"optimiser.rates": rates}), tmp_path / name, ALONE)
        before = {key: value.detach().clone() for key, value in run.model.named_parameters()}
        train_epoch(run)
        assert run.state.step == 1
        moves.append({key: value.detach() - before[key] for key, value in run.model.named_parameters()})
    factors = find_rate_factors(list(before), run.recipe.optimiser.rates)
    assert set(factors.values()) == {0.5, 1.0, 3.0, 0.25}
    for key, moved in moves[1].items():
        torch.testing.assert_close(moved, moves[0][key] * factors[key], rtol=1e-3, atol=2e-7)
    save(run)
    resumed = start_or_resume(run.recipe, tmp_path / "rates", ALONE)
    for one, other in zip(resumed.model.parameters(), run.model.parameters(), strict=True):
        assert_equal(resumed.optimiser.state[one], run.optimiser.state[other])
