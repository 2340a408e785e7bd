"""The arithmetic of a plan; the probe itself is tested in tests/model/training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.corpus import Corpus, SetInfo
from model.recipe.files import named_recipe, with_values
from model.training.probe import Probe
from study.config.study_file import StudyFile
from study.execution.plan import Plan, describe_plan, make_plan

PROBE = Probe(step=(1.0, 1.0, 1.0), scoring=(0.01, 0.01, 0.01), pass_steps=3600, weight_bytes=2**20)
SETS = {
    "train": SetInfo(role="train", utterances=1000, seconds=36_000.0),
    "dev": SetInfo(role="dev", utterances=100, seconds=3600.0),
    "test": SetInfo(role="test", utterances=100, seconds=7200.0),
}
CORPUS = Corpus(Path("/speech"), "speech", "basic", "", SETS, "abc", "basic 1")
BASE = with_values(named_recipe("tiny", "/speech"), {"training.epochs": 10, "data.speeds": [1.0]})


def plan(probe: Probe = PROBE, concurrency: int = 1, base: Any = BASE, trials: int = 20, **study: Any) -> Plan:
    content = {"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "trials": trials}
    return make_plan(StudyFile.model_validate(content | study), base, CORPUS, probe, trials + 2, 6, concurrency)


def test_a_plan_of_figures_that_are_known_is_what_one_reckons_by_hand() -> None:
    found = plan(early_stopping={"rule": "none"}, score_tests="none", workers={"count": 2, "gpus": 1})
    assert found.epoch_seconds == pytest.approx((3600 + 18, 3600 + 18)), "a pass, and an hour of dev on two workers"
    training, search = 10 * (3600 + 18), 0.1 * 10 * 3600
    assert found.trial_seconds == pytest.approx((training, training + search))
    assert found.hours == pytest.approx((28 * training / 3600, 28 * (training + search) / 3600))
    assert found.gpu_hours == pytest.approx((2 * found.hours[0], 2 * found.hours[1]))
    features = 16_000 * (36_000 + 3600 + 7200)
    assert found.disk_bytes == 7 * 2**20 + 28 * 2**20 + features, "one that runs, what is kept of all, and features"
    assert plan(disk={"keep_best": 1}).disk_bytes == 7 * 2**20 + (2 + 2 + 6) * 2**20 + features


def test_trials_that_may_be_stopped_early_lower_the_low_end_alone() -> None:
    whole, stopped = plan(early_stopping={"rule": "none"}), plan(early_stopping={"rule": "evidence"})
    assert stopped.hours[1] == whole.hours[1]
    first = 22 - 8 - 1  # after the eight that run to their end, every tenth does
    assert whole.hours[0] - stopped.hours[0] == pytest.approx(first * 9 * (3600 + 36) / 3600)


@given(
    st.lists(st.floats(0.01, 100.0), min_size=2, max_size=6),
    st.integers(1, 8),
    st.sampled_from(["none", "evidence", "asha", "median"]),
    st.sampled_from(["best", "all", "none"]),
)
def test_a_plan_is_an_interval_that_shrinks_with_machines_and_grows_with_trials(
    step: list[float], concurrency: int, rule: str, score_tests: str
) -> None:
    options: dict[str, Any] = {"early_stopping": {"rule": rule}, "score_tests": score_tests}
    probe = replace(PROBE, step=tuple(step))
    one = plan(probe, **options)
    for interval in (one.epoch_seconds, one.trial_seconds, one.hours):
        assert 0 < interval[0] <= interval[1]
    assert plan(probe, concurrency, **options).hours == pytest.approx(tuple(hours / concurrency for hours in one.hours))
    assert plan(probe, trials=40, **options).hours[1] > one.hours[1]


@pytest.mark.parametrize(
    ("values", "steps"),
    [({"training.epoch_steps": 500}, 500), ({"training.epoch_share": 0.25}, 900), ({}, 3600)],
)
def test_an_epoch_has_the_steps_that_the_recipe_gives_it(values: dict[str, Any], steps: int) -> None:
    assert plan(base=with_values(BASE, values)).epoch_steps == steps


SLOW = replace(PROBE, step=(0.5,) * 3, scoring=(0.2,) * 3)  # an epoch trains for 1,800 s, all of dev takes 720 s


@pytest.mark.parametrize("workers", [1, 4])
def test_of_scoring_that_takes_long_the_plan_says_how_many_utterances_make_it_a_tenth(workers: int) -> None:
    given = {"workers": {"count": workers}}
    probe = replace(SLOW, scoring=(0.2 * workers,) * 3)
    *_, line = describe_plan(plan(probe, **given))
    share = "scoring 100 dev utterances takes 40 % of the time that an epoch trains"
    assert line == f"{share}; validation.utterances: 25 would make it 10 %"
    less = plan(probe, base=with_values(BASE, {"validation.utterances": 25}), **given)
    assert "scoring" not in "".join(describe_plan(less))
    assert less.epoch_seconds == pytest.approx((1800 + 180, 1800 + 180)), "only the part is counted"
    assert "scoring" not in "".join(describe_plan(plan())), "a hundredth"


def test_where_too_few_utterances_would_be_left_the_plan_says_how_long_an_epoch_should_be() -> None:
    short = with_values(BASE, {"training.epoch_steps": 60})
    *_, line = describe_plan(plan(SLOW, base=short))
    assert line.endswith(
        "validation.utterances: 20 and training.epoch_steps: 2880, with fewer epochs, would make it 10 %"
    )
    longer = with_values(BASE, {"training.epoch_steps": 2880, "validation.utterances": 20})
    assert "scoring" not in "".join(describe_plan(plan(SLOW, base=longer)))
    fewest = with_values(BASE, {"training.epoch_steps": 60, "validation.utterances": 10})
    *_, line = describe_plan(plan(SLOW, base=fewest))
    assert line.startswith(
        "scoring 10 dev utterances takes 240 % of the time that an epoch trains; training.epoch_steps:"
    )


def test_a_plan_is_read_in_hours_and_a_short_one_in_minutes() -> None:
    lines = list(describe_plan(plan(workers={"count": 2, "gpus": 1})))
    assert lines[0] == "22 trials, then 6 to confirm finalists, 1 at a time"
    assert lines[2].startswith("the study: ")
    assert " hours, " in lines[2]
    assert " GPU-hours, " in lines[2]
    short = list(describe_plan(plan(replace(PROBE, pass_steps=1, scoring=(1e-6,) * 3))))
    assert " minutes, " in short[2]
    assert "GPU" not in short[2]
