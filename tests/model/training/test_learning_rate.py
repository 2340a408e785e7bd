"""The learning rate, against torch's schedulers where one exists and the paper's formula for Noam."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.training import OptimiserConfig
from model.training.learning_rate import ends_after_warm_up, learning_rate, plateau_decay

SETTINGS = OptimiserConfig(learning_rate=1e-2, warmup_steps=10, decay="linear")
DECAYS = st.sampled_from(["linear", "cosine", "none", "noam", "plateau"])
FLOORS = st.just(0.0) | st.floats(0.0, 0.99)
SHARES = st.floats(0.0, 1.0)
WERS = st.lists(st.sampled_from([10.0, 20.0, 20.0001, 30.0]) | st.floats(0.0, 200.0), max_size=30)


@given(DECAYS, FLOORS, st.integers(0, 500), SHARES, WERS)
def test_the_rate_of_warm_up_steps_never_exceeds_the_recipe_nor_falls_below_the_floor_after_them(
    decay: Any, floor: float, step: int, progress: float, wers: list[float]
) -> None:
    settings = OptimiserConfig(learning_rate=1e-2, warmup_steps=10, decay=decay, floor=floor)
    rate = learning_rate(settings, step, progress, wers)
    assert 0 <= rate <= 1e-2
    if step >= 9:
        assert rate >= 1e-2 * floor * (1 - 1e-12)


@given(st.sampled_from(["linear", "cosine", "none", "plateau"]), st.just(0.0) | st.floats(0.01, 0.99), SHARES)
def test_a_share_of_warm_up_reaches_the_recipe_s_rate_exactly_and_never_exceeds_it(
    decay: Any, share: float, progress: float
) -> None:
    settings = OptimiserConfig(learning_rate=1e-2, warmup=share, decay=decay)
    assert 0 <= learning_rate(settings, 7, progress) <= 1e-2
    assert learning_rate(settings, 7, share) == 1e-2
    assert learning_rate(settings, 7, share / 2) == pytest.approx(5e-3 if share else 1e-2)


def test_decay_fills_what_warm_up_leaves() -> None:
    settings = OptimiserConfig(learning_rate=1e-2, warmup=0.2)
    rates = [learning_rate(settings, 10**6, progress) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.0, 5e-3, 1e-2, 5e-3, 0.0])


def test_the_rate_warms_up_and_decays_to_zero() -> None:
    assert learning_rate(SETTINGS, 0, 0.0) == pytest.approx(1e-3)
    assert learning_rate(SETTINGS, 9, 0.0) == pytest.approx(1e-2)
    assert learning_rate(SETTINGS, 1000, 0.5) == pytest.approx(5e-3)
    assert learning_rate(SETTINGS, 1000, 1.0) == 0.0


@given(st.integers(0, 500), SHARES)
def test_without_a_floor_linear_and_cosine_are_bit_for_bit_what_they_were_before_there_was_one(
    step: int, progress: float
) -> None:
    warm_up = min(1.0, (step + 1) / 10)
    cosine = SETTINGS.model_copy(update={"decay": "cosine"})
    assert learning_rate(SETTINGS, step, progress) == 1e-2 * min(warm_up, 1.0 - progress)
    assert learning_rate(cosine, step, progress) == 1e-2 * min(warm_up, 0.5 + 0.5 * math.cos(math.pi * progress))


@given(st.sampled_from(["linear", "cosine"]), FLOORS, st.sampled_from([0.0, 0.01, 0.5]), SHARES, st.floats(0.0, 1e-3))
def test_a_little_progress_changes_the_rate_a_little(
    decay: Any, floor: float, warmup: float, progress: float, more: float
) -> None:
    settings = OptimiserConfig(learning_rate=1.0, decay=decay, floor=floor, warmup=warmup)
    change = learning_rate(settings, 0, min(progress + more, 1.0)) - learning_rate(settings, 0, progress)
    steepest = max(1 / warmup if warmup else 0.0, math.pi / 2 / (1 - warmup))
    assert abs(change) <= steepest * more + 1e-9


def run_scheduler(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    """The rate of each step as torch's scheduler sets it."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def new_sgd() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)


@run_settings(deadline=None)  # torch imports its compiler when the first optimiser is made
@given(st.sampled_from(["linear", "cosine"]), FLOORS, st.integers(1, 40))
def test_decay_to_a_floor_is_that_of_torch(decay: Any, floor: float, steps: int) -> None:
    settings = OptimiserConfig(learning_rate=2e-3, decay=decay, floor=floor, warmup=0.0)
    theirs: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LinearLR(new_sgd(), 1.0, floor, steps)
    if decay == "cosine":
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(new_sgd(), steps, eta_min=floor * 2e-3)
    ours = [learning_rate(settings, step, step / steps) for step in range(steps + 1)]
    assert ours == pytest.approx(run_scheduler(theirs, steps + 1), rel=1e-6, abs=1e-9)


@given(st.integers(1, 1000), st.integers(0, 5000), st.floats(0.0, 1.0))
def test_noam_is_the_formula_of_the_paper_scaled_to_its_peak(warmup_steps: int, step: int, progress: float) -> None:
    settings = OptimiserConfig(learning_rate=2e-3, decay="noam", warmup_steps=warmup_steps)
    number = step + 1
    width = 512
    paper = width**-0.5 * min(number**-0.5, number * warmup_steps**-1.5)
    peak = (width * warmup_steps) ** -0.5
    assert learning_rate(settings, step, progress) == pytest.approx(2e-3 * paper / peak)
    assert learning_rate(settings, warmup_steps - 1, progress) == 2e-3
    floored = settings.model_copy(update={"floor": 0.4})
    expected = learning_rate(settings, step, progress)
    assert learning_rate(floored, step, progress) == (expected if number < warmup_steps else max(expected, 0.4 * 2e-3))


@run_settings(deadline=None)
@given(WERS, st.integers(1, 4), st.sampled_from([0.0, 0.01, 0.3]), st.sampled_from([0.1, 0.5]), FLOORS)
def test_plateau_lowers_the_rate_when_torch_does(
    wers: list[float], patience: int, threshold: float, factor: float, floor: float
) -> None:
    settings = OptimiserConfig(
        learning_rate=2e-3,
        warmup=0.0,
        decay="plateau",
        floor=floor,
        plateau_factor=factor,
        plateau_patience=patience,
        plateau_threshold=threshold,
    )
    optimiser = new_sgd()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=factor, patience=patience - 1, threshold=threshold, min_lr=floor * 2e-3, eps=0.0
    )
    for count, wer in enumerate(wers, start=1):
        theirs.step(wer)
        ours = learning_rate(settings, 100 * count, count / 40, wers[:count])
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)


def test_plateau_counts_a_wer_that_is_no_number_as_one_that_has_not_fallen() -> None:
    settings = OptimiserConfig(decay="plateau", plateau_patience=2, plateau_factor=0.5)
    assert plateau_decay(settings, [50.0, math.nan, math.nan]) == 0.5
    assert plateau_decay(settings, [math.nan, 50.0, 50.0]) == 1.0


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        ({"warmup": 0.5}, [False, True, True, True]),
        ({"warmup": 0.0}, [True, True, True, True]),
        ({"warmup": 0.0, "warmup_steps": 21}, [False, False, True, True]),
    ],
)
def test_plateau_follows_the_epochs_that_end_after_the_warm_up(values: dict[str, Any], counted: list[bool]) -> None:
    settings = OptimiserConfig(decay="plateau", **values)
    assert [ends_after_warm_up(settings, 10 * epoch, epoch / 4) for epoch in (1, 2, 3, 4)] == counted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"decay": "noam"},
            "optimiser.decay is noam, which follows the steps of the warm-up, but optimiser.warmup_ste",
        ),
        ({"decay": "noam", "warmup_steps": 0}, "optimiser.warmup_steps is 0; give their number, or choose another"),
        ({"decay": "steps"}, "'optimiser.decay' is 'steps'; input should be 'linear', 'cosine', 'none', 'noam' or 'p"),
        ({"floor": 1.0}, "'optimiser.floor' is 1.0; input should be less than 1"),
        ({"plateau_factor": 1.0}, "'optimiser.plateau_factor' is 1.0; input should be less than 1"),
        ({"plateau_patience": 0}, "'optimiser.plateau_patience' is 0; input should be greater than or equal to 1"),
        ({"plateau_threshold": -0.1}, "'optimiser.plateau_threshold' is -0.1; input should be greater than or equal"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        with_values(named_recipe("tiny", "somewhere"), {f"optimiser.{key}": value for key, value in values.items()})
