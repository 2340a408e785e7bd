"""Orders of people are a fold of events: what is in force, and what it does to trials that do not run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    SessionStarted,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.steering import Enqueued, Setting, Steering, parse_setting
from study.ledger.trials import Trials

WHO = "ada@laptop"
NUMBERS = st.integers(0, 2)
CONTROLS = st.builds(
    ControlGiven,
    who=st.just(WHO),
    command=st.sampled_from(["stop", "pause", "resume", "promote", "retry", "note", "drain", "set", "enqueue"]),
    number=st.none() | NUMBERS,
    value=st.none() | st.sampled_from(["trials=4", "concurrent_trials=none", "{}", '{"init_from": "/a"}']),
    id=st.none() | st.sampled_from("abc"),
)
EVENTS = st.lists(
    CONTROLS
    | st.builds(SessionStarted)
    | st.builds(StudyInterrupted)
    | st.builds(TrialStarted, number=NUMBERS, enqueued=st.none() | st.sampled_from("abc"))
    | st.builds(TrialEpoch, number=NUMBERS, epoch=st.integers(1, 3), metrics=st.just({"dev/wer": 3.0}))
    | st.builds(TrialRetried, number=NUMBERS, count=st.just(1))
    | st.builds(TrialPaused, number=NUMBERS, epoch=st.just(1))
    | st.builds(TrialEnded, number=NUMBERS, state=st.sampled_from(TrialState)),
    max_size=25,
)


def order(command: str, number: int | None = None, value: str | None = None, **fields: str) -> ControlGiven:
    return ControlGiven(time=9.0, who=WHO, command=command, number=number, value=value, **fields)


def started(*numbers: int) -> list[AnyEvent]:
    return [SessionStarted(time=1.0), *(TrialStarted(time=2.0, number=number) for number in numbers)]


def epoch(number: int, at: int) -> TrialEpoch:
    return TrialEpoch(time=3.0, number=number, epoch=at, metrics={"dev/wer": 40.0 - at})


@given(events=EVENTS, cut=st.integers(0, 25))
def test_folding_two_parts_one_after_the_other_equals_folding_them_together(events: list[AnyEvent], cut: int) -> None:
    parts = Trials(events[:cut])
    for event in events[cut:]:
        parts.apply(event)
    whole = Trials(events)
    assert (dict(parts), parts.steering) == (dict(whole), whole.steering)


@given(events=EVENTS)
def test_a_trial_that_is_to_be_stopped_runs_or_has_ended(events: list[AnyEvent]) -> None:
    trials = Trials(events)
    for number in trials.steering.stopped.keys() & trials.keys():
        assert trials[number].state is TrialState.RUNNING or trials[number].state.final


@given(events=EVENTS)
def test_a_drain_is_over_with_its_session_and_a_pause_is_not(events: list[AnyEvent]) -> None:
    paused_by = Trials(events).steering.paused_by
    after = Trials([*events, SessionStarted()]).steering
    assert (after.drained_by, after.paused_by) == (None, paused_by)


def test_a_stopped_trial_that_runs_ends_when_its_driver_says_so_and_one_that_does_not_run_at_once() -> None:
    trials = Trials([*started(0), epoch(0, 2), order("stop", 0)])
    assert trials[0].state is TrialState.RUNNING
    trials.apply(SessionStarted(time=20.0))  # its driver was killed
    assert (trials[0].state, trials[0].reason, trials[0].ended) == (
        TrialState.PRUNED,
        "stopped by ada@laptop after epoch 2",
        20.0,
    )
    assert trials[0].metrics == {"dev/wer": 38.0}, "its figures so far stay"


@pytest.mark.parametrize("event", [TrialPaused(number=0, epoch=1), TrialRetried(number=0, count=1)])
def test_a_trial_that_is_stopped_neither_waits_nor_is_retried(event: AnyEvent) -> None:
    trials = Trials([*started(0), order("stop", 0), event])
    assert (trials[0].state, trials[0].reason) == (TrialState.PRUNED, "stopped by ada@laptop before its first epoch")


def test_a_trial_that_completes_before_its_order_is_followed_is_complete_and_the_order_forgotten() -> None:
    trials = Trials([*started(0), order("stop", 0), TrialEnded(number=0, state=TrialState.COMPLETE)])
    assert trials[0].state is TrialState.COMPLETE
    assert trials.steering.stopped == {}


def test_a_retry_forgets_that_the_trial_was_to_be_stopped() -> None:
    ended = TrialEnded(number=0, state=TrialState.FAILED, reason="KeyError: 3")
    trials = Trials([*started(0), order("pause", 0), ended, order("stop", 0), order("retry", 0)])
    assert trials[0].state is TrialState.INTERRUPTED
    assert (trials.steering.stopped, trials.steering.held) == ({}, {})


def test_notes_stay_with_their_trial_in_order_with_who_wrote_them() -> None:
    trials = Trials([*started(0), order("note", 0, "loss rises"), order("note", 0, "it fell again")])
    assert trials[0].notes == ("loss rises (ada@laptop)", "it fell again (ada@laptop)")
    assert trials[0].state is TrialState.RUNNING


def test_where_an_enqueued_recipe_starts_from_is_known_also_once_its_trial_has_started() -> None:
    recipes = ['{"init_from": "/a"}', '{"init_from": null}', '{"init_from": "/b"}', "torn {"]
    orders = [order("enqueue", value=recipe, id=str(index)) for index, recipe in enumerate(recipes)]
    trials = Trials([*started(), *orders, TrialStarted(number=0, enqueued="0", enqueued_by=WHO)])
    assert trials.steering.sources == {"/a", "/b"}


def test_an_enqueued_recipe_waits_until_its_trial_starts_and_the_trial_keeps_who_asked_for_it() -> None:
    trials = Trials([*started(), order("enqueue", value="{}", id="a"), order("enqueue", value="[]", id="b")])
    assert trials.steering.enqueued == (Enqueued("a", WHO, "{}"), Enqueued("b", WHO, "[]"))
    trials.apply(TrialStarted(number=0, enqueued="a", enqueued_by=WHO))
    assert [one.id for one in trials.steering.enqueued] == ["b"]
    trials.apply(TrialStarted(number=0))  # it continues
    assert trials[0].enqueued_by == WHO


def test_settings_keep_what_they_replaced_and_none_is_no_limit() -> None:
    steering = Trials(
        [order("set", value="trials=40", before="20"), order("set", value="concurrent_trials=none", before="2")]
    ).steering
    assert steering.settings == {"trials": Setting(40, 20, WHO), "concurrent_trials": Setting(None, 2, WHO)}
    assert (steering.get("trials", 20), steering.get("concurrent_trials", 2)) == (40, None)
    assert Steering().get("trials", 20) == 20


@pytest.mark.parametrize("text", ["trials=none", "trials=-1", "trials", "epochs=3", "trials=4.5", ""])
def test_what_is_no_setting_sets_nothing(text: str) -> None:
    assert list(parse_setting(text)) == []
    assert Trials([order("set", value=text)]).steering.settings == {}
