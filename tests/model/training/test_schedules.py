"""The pure schedules: weights of the loss by progress, and which layers a step skips."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.network.losses import scale_auxiliary
from model.recipe.architecture import LossConfig, LossScheduleConfig
from model.recipe.files import named_recipe, with_values
from model.training.schedules import auxiliary_factor, ctc_weight, draw_skipped_layers, list_scheduled, schedule_change

SHARES = st.floats(0.0, 1.0)
AUXILIARY = {"placement": (2, 3), "weights": (0.3, 0.2)}


@st.composite
def schedules(draw: st.DrawFn) -> LossScheduleConfig:
    start = draw(st.floats(0.0, 0.9))
    stop = draw(st.floats(start + 0.05, 1.0))
    ends = {"auxiliary": draw(SHARES), "ctc_weight": draw(st.none() | SHARES)}
    return LossScheduleConfig(shape=draw(st.sampled_from(["linear", "cosine"])), start=start, stop=stop, **ends)


@given(schedules(), SHARES, st.floats(0.0, 1e-3))
def test_the_change_rises_from_0_to_1_between_start_and_stop_without_a_jump(
    schedule: LossScheduleConfig, progress: float, more: float
) -> None:
    change, later = (schedule_change(schedule, share) for share in (progress, progress + more))
    assert 0.0 <= change <= later <= 1.0
    assert later - change <= 1.6 * more / (schedule.stop - schedule.start) + 1e-9
    assert schedule_change(schedule, schedule.start) == 0.0 == schedule_change(schedule, 0.0)
    assert schedule_change(schedule, schedule.stop) == 1.0 == schedule_change(schedule, 1.0)
    assert schedule_change(schedule, (schedule.start + schedule.stop) / 2) == pytest.approx(0.5)


@given(schedules(), SHARES, SHARES)
def test_weights_go_from_those_of_the_recipe_to_those_of_the_schedule(
    schedule: LossScheduleConfig, first: float, progress: float
) -> None:
    loss = LossConfig(ctc_weight=first, schedule=schedule)
    last = first if schedule.ctc_weight is None else schedule.ctc_weight
    assert (auxiliary_factor(loss, 0.0), ctc_weight(loss, 0.0)) == (1.0, first)
    assert auxiliary_factor(loss, 1.0) == pytest.approx(schedule.auxiliary, abs=1e-15)
    assert ctc_weight(loss, 1.0) == last
    assert schedule.auxiliary - 1e-15 <= auxiliary_factor(loss, progress) <= 1.0
    assert min(first, last) - 1e-15 <= ctc_weight(loss, progress) <= max(first, last) + 1e-15


@given(st.lists(st.floats(0.01, 0.9), max_size=4).filter(lambda weights: sum(weights) < 0.99), SHARES)
def test_the_final_classifier_takes_what_auxiliary_ones_give_up(weights: list[float], factor: float) -> None:
    whole = torch.tensor([*weights, 1.0 - sum(weights)])
    scaled = scale_auxiliary(whole, factor)
    torch.testing.assert_close(scaled[:-1], whole[:-1] * factor)
    assert float(scaled.sum()) == pytest.approx(1.0, abs=1e-6)
    assert scale_auxiliary(whole, 1.0) is whole
    assert scale_auxiliary(whole, 0.0).tolist() == [0.0] * len(weights) + [1.0]


def test_only_what_a_schedule_changes_is_a_metric() -> None:
    both = LossScheduleConfig(auxiliary=0.0, ctc_weight=0.5)
    assert list_scheduled(LossConfig(auxiliary=AUXILIARY), 0.5) == {}
    assert list_scheduled(LossConfig(schedule=both), 0.5) == {"train/ctc_weight": pytest.approx(0.4)}
    assert list_scheduled(LossConfig(schedule=both, auxiliary=AUXILIARY), 0.5) == {
        "train/auxiliary_factor": 0.5,
        "train/ctc_weight": pytest.approx(0.4),
    }


@given(st.integers(1, 30), st.floats(0.0, 0.99), st.floats(0.0, 0.99), st.text(max_size=9))
def test_which_layers_are_skipped_depends_on_the_draw_s_name_and_more_are_at_a_higher_probability(
    layers: int, one: float, other: float, draw: str
) -> None:
    fewer, more = (draw_skipped_layers(layers, probability, draw) for probability in sorted((one, other)))
    assert fewer <= more <= set(range(1, layers + 1))
    assert draw_skipped_layers(layers, one, draw) == (fewer if one <= other else more)
    assert draw_skipped_layers(layers, 0.0, draw) == frozenset()


def test_each_layer_is_skipped_in_its_share_of_the_steps() -> None:
    drawn = [draw_skipped_layers(4, 0.3, f"0/{step}/encoder layers") for step in range(4000)]
    for layer in (1, 2, 3, 4):
        assert sum(layer in skipped for skipped in drawn) / 4000 == pytest.approx(0.3, abs=0.04)
    both = sum({1, 2} <= skipped for skipped in drawn) / 4000
    assert both == pytest.approx(0.09, abs=0.02), "layers are drawn independently"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "loss.schedule",
            {"start": 0.5, "stop": 0.5},
            "loss.schedule: start is 0.5 and stop is 0.5, but the change has to begin before it is complete; lower sta",
        ),
        ("loss.schedule.auxiliary", 1.5, "'loss.schedule.auxiliary' is 1.5; input should be less than or equal to 1"),
        (
            "loss.schedule.ctc_weight",
            -1,
            "'loss.schedule.ctc_weight' is -1; input should be greater than or equal to 0",
        ),
        ("encoder.layer_drop", 1.0, "'encoder.layer_drop' is 1.0; input should be less than 1"),
        ("decoder.layer_drop", -0.1, "'decoder.layer_drop' is -0.1; input should be greater than or equal to 0"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        with_values(named_recipe("tiny", "somewhere"), {key: value})
