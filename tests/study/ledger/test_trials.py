"""The fold from events to trials: its laws, and what each event does to a record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    EpochReport,
    NodeExcluded,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialEnded,
    TrialEpoch,
    TrialImported,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials

NUMBERS, EPOCHS = st.integers(0, 4), st.integers(1, 6)
STATES = st.sampled_from([state for state in TrialState if state.final] + [TrialState.INTERRUPTED])


EVENTS = st.one_of(
    st.builds(SessionStarted),
    st.builds(StudyInterrupted, best=st.none() | NUMBERS),
    st.builds(StudyEnded, state=st.just(TrialState.COMPLETE)),
    st.builds(TrialStarted, number=NUMBERS, baseline=st.none() | st.just("ed"), epochs=EPOCHS),
    st.builds(
        TrialEpoch,
        number=NUMBERS,
        epoch=EPOCHS,
        metrics=st.fixed_dictionaries({"dev/wer": st.integers(0, 100).map(float)}),
    ),
    st.builds(TrialPaused, number=NUMBERS, epoch=EPOCHS),
    st.builds(
        TrialRetried,
        number=NUMBERS,
        count=st.integers(1, 3),
        lost_seconds=st.none() | st.just(2.0),
        elsewhere=st.booleans(),
    ),
    st.builds(NodeExcluded, node=st.just("one"), node_id=st.just("aa"), reason=st.just("it is sick")),
    st.builds(
        ControlGiven, who=st.just("ada@laptop"), command=st.sampled_from(["retry", "note"]), number=st.none() | NUMBERS
    ),
    st.builds(TrialEnded, number=NUMBERS, state=STATES, metrics=st.just({"in_domain/wer": 3.0})),
    st.builds(
        TrialImported,
        number=NUMBERS,
        source=st.just("old/1"),
        state=STATES,
        epochs=st.just((EpochReport(epoch=1, metrics={"dev/wer": 4.0}),)),
        metrics=st.just({"dev/wer": 4.0}),
    ),
)


def snapshot(trials: Trials) -> tuple[Any, ...]:
    study = trials.study_state, trials.best, trials.began, trials.has_ended, trials.excluded
    return dict(trials), trials.running, study


@given(st.lists(EVENTS, max_size=30), st.lists(EVENTS, max_size=30))
def test_folding_two_parts_one_after_the_other_equals_folding_them_together(
    first: list[AnyEvent], second: list[AnyEvent]
) -> None:
    in_parts = Trials(first)
    for event in second:
        in_parts.apply(event)
    assert snapshot(in_parts) == snapshot(Trials([*first, *second]))


@given(st.lists(EVENTS, max_size=60))
def test_numbers_ascend_and_the_running_numbers_are_those_of_running_trials(events: list[AnyEvent]) -> None:
    trials = Trials(events)
    assert list(trials) == sorted(trials)
    assert trials.running == [number for number, record in trials.items() if record.state is TrialState.RUNNING]
    assert trials.next_number == max(trials, default=-1) + 1


@given(st.lists(EVENTS, max_size=60))
def test_epochs_ascend_and_every_report_is_the_last_one_of_its_epoch(events: list[AnyEvent]) -> None:
    for number, record in Trials(events).items():
        epochs = [report.epoch for report in record.epochs]
        assert epochs == sorted(set(epochs))
        reported = [event for event in events if isinstance(event, TrialEpoch) and event.number == number]
        for report in record.epochs:
            if isinstance(report, TrialEpoch):
                assert report is [event for event in reported if event.epoch == report.epoch][-1]


def test_an_epoch_that_is_reported_again_replaces_its_first_report_and_the_epochs_after_it() -> None:
    reports = [TrialEpoch(number=0, epoch=epoch, metrics={"dev/wer": 90.0 - epoch}) for epoch in (1, 2, 3)]
    repeat = TrialEpoch(number=0, epoch=2, metrics={"dev/wer": 50.0})
    record = Trials([TrialStarted(number=0), *reports, repeat])[0]
    assert record.curve("dev/wer") == {1: 89.0, 2: 50.0}
    assert record.metrics == {"dev/wer": 50.0}


def test_running_trials_are_interrupted_when_a_session_starts_or_the_study_stops() -> None:
    for stop in (SessionStarted(time=9.0), StudyInterrupted(time=9.0)):
        trials = Trials([TrialStarted(number=0), TrialStarted(number=1), TrialPaused(number=1, epoch=1), stop])
        assert [record.state for record in trials.values()] == [TrialState.INTERRUPTED, TrialState.WAITING]
        assert trials[0].ended == 9.0
        trials.apply(TrialStarted(number=0, time=10.0))
        assert (trials[0].state, trials[0].ended) == (TrialState.RUNNING, None)


def test_a_retried_trial_sums_its_retries_and_lost_seconds() -> None:
    lost = [TrialRetried(number=0, count=count, lost_seconds=1.5, reason="worker 1 was lost") for count in (1, 2)]
    record = Trials([TrialStarted(number=0, time=3.0), lost[0], TrialStarted(number=0, time=8.0), lost[1]])[0]
    assert (record.state, record.retries, record.lost_seconds) == (TrialState.INTERRUPTED, 2, 3.0)
    assert record.started == 3.0, "when it ran first"


@given(st.lists(EVENTS, max_size=60))
def test_retries_are_counted_in_all_and_since_the_furthest_epoch(events: list[AnyEvent]) -> None:
    for number, record in Trials(events).items():
        own = [event for event in events if getattr(event, "number", None) == number]
        epochs = [event.epoch for event in own if isinstance(event, TrialEpoch)]
        counted = [event for event in own if isinstance(event, TrialRetried) and not event.elsewhere]
        assert record.furthest_epoch == max(epochs, default=0)
        assert max([len(counted), *(event.count for event in counted)]) <= record.retries <= len(counted) + 3
        first = next((i for i, e in enumerate(own) if isinstance(e, TrialEpoch) and e.epoch == max(epochs)), 0)
        since = [event for event in own[first:] if event in counted]
        reopened = any(isinstance(event, ControlGiven) for event in own)
        assert record.retries_here == len(since) or (reopened and record.retries_here < len(since))


def test_an_epoch_that_is_reported_again_is_no_progress_and_a_new_one_is() -> None:
    """A trial whose newest checkpoint is torn goes back an epoch each time, and must not be retried for ever."""
    trials = Trials([TrialStarted(number=0), *(TrialEpoch(number=0, epoch=epoch) for epoch in (1, 2, 3))])
    for count in (1, 2):
        trials.apply(TrialRetried(number=0, count=count))
        trials.apply(TrialStarted(number=0))
        trials.apply(TrialEpoch(number=0, epoch=2))
        trials.apply(TrialEpoch(number=0, epoch=3))
    assert (trials[0].retries, trials[0].retries_here) == (2, 2)
    trials.apply(TrialEpoch(number=0, epoch=4))
    assert (trials[0].retries, trials[0].retries_here) == (2, 0)


def test_a_retry_on_another_node_is_not_counted() -> None:
    moved = TrialRetried(number=0, count=0, elsewhere=True, reason="KeyError", lost_seconds=2.0)
    record = Trials([TrialStarted(number=0), moved])[0]
    assert (record.state, record.retries, record.retries_here) == (TrialState.INTERRUPTED, 0, 0)
    assert record.lost_seconds == 2.0


def test_a_retry_in_more_parts_is_not_counted() -> None:
    split = TrialRetried(number=0, count=0, in_more_parts=True, reason="out of memory", lost_seconds=2.0)
    record = Trials([TrialStarted(number=0), split, TrialStarted(number=0), split])[0]
    assert (record.state, record.retries, record.retries_here) == (TrialState.INTERRUPTED, 0, 0)
    assert record.lost_seconds == 4.0


def test_a_trial_that_left_a_drained_node_will_be_resumed_and_has_neither_failed_nor_lost_anything() -> None:
    trials = Trials([TrialStarted(number=0), TrialEpoch(number=0, epoch=1), TrialMoved(number=0, reason="drained")])
    record = trials[0]
    assert (record.state, record.reason, record.epoch) == (TrialState.INTERRUPTED, "drained", 1)
    assert (record.retries, record.retries_here, record.lost_seconds) == (0, 0, 0.0)
    assert trials.running == []


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.INFEASIBLE])
def test_a_trial_that_failed_is_reopened_as_one_that_was_interrupted(state: TrialState) -> None:
    retry = ControlGiven(time=9.0, who="ada@laptop", command="retry", number=0)
    end = TrialEnded(number=0, state=state, reason="KeyError", metrics={"dev/wer": 4.0})
    epoch = TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 40.0})
    trials = Trials([TrialStarted(number=0), epoch, TrialRetried(number=0, count=1), TrialStarted(number=0), end])
    trials.apply(retry)
    record = trials[0]
    assert (record.state, record.reason) == (TrialState.INTERRUPTED, "reopened by ada@laptop")
    assert (record.metrics, record.final_metrics, record.epoch) == ({"dev/wer": 40.0}, {}, 1)
    assert (record.retries, record.retries_here, record.ended) == (1, 0, 9.0)


def test_a_trial_that_did_not_fail_or_never_had_a_recipe_is_not_reopened() -> None:
    before = [
        TrialStarted(number=0),
        TrialEnded(number=0, state=TrialState.COMPLETE),
        TrialStarted(number=1),
        TrialEnded(number=2, state=TrialState.INFEASIBLE, reason="it makes no recipe"),
    ]
    orders = [ControlGiven(who="ada@laptop", command="retry", number=number) for number in range(4)]
    assert dict(Trials([*before, *orders])) == dict(Trials(before))


def excluded(node: str, until: float | None = None) -> NodeExcluded:
    return NodeExcluded(time=1.0, node=node, node_id="aa", reason="it is sick", until=until)


def test_sessions_keep_away_from_an_excluded_node_until_its_time_is_over() -> None:
    events = [SessionStarted(time=0.0), excluded("one", 100.0), excluded("two", 200.0), excluded("of an old version")]
    trials = Trials(events)
    assert [event.node for event in trials.excluded] == ["one", "two", "of an old version"]
    trials.apply(SessionStarted(time=99.0))
    assert [event.node for event in trials.excluded] == ["one", "two"]
    trials.apply(SessionStarted(time=100.0))
    assert [event.node for event in trials.excluded] == ["two"]


def test_a_node_that_is_excluded_again_is_excluded_once() -> None:
    trials = Trials([excluded("one", 100.0), excluded("two", 100.0), excluded("one", 200.0)])
    assert trials.excluded == (excluded("two", 100.0), excluded("one", 200.0))


def test_a_person_has_a_node_used_again() -> None:
    events = [excluded("one", 100.0), excluded("two", 100.0), ControlGiven(who="ada", command="use", value="one")]
    assert Trials(events).excluded == (excluded("two", 100.0),)


def test_an_infeasible_point_has_the_values_of_its_end_event() -> None:
    event = TrialEnded(number=0, state=TrialState.INFEASIBLE, values={"a": 1}, point={"a": 1.0}, reason="no")
    record = Trials([event])[0]
    assert (record.state, record.values, record.point, record.started) == (
        TrialState.INFEASIBLE,
        {"a": 1},
        {"a": 1.0},
        None,
    )


def test_final_metrics_stand_above_those_of_the_last_epoch_and_change_no_curve() -> None:
    events = [
        TrialStarted(number=0, decoding_hash="greedy"),
        TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 40.0, "train/loss": 2.0}),
        TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"dev/wer": 35.0}),
        TrialDecoded(number=0, decoding={}, decoding_hash="greedy", metrics={"in_domain/wer": 30.0}),
        TrialDecoded(number=0, decoding={}, decoding_hash="beam", metrics={"in_domain/wer": 20.0}),
    ]
    record = Trials(events)[0]
    assert record.metrics == {"dev/wer": 35.0, "train/loss": 2.0, "in_domain/wer": 30.0}
    assert record.final_metrics == {"dev/wer": 35.0, "in_domain/wer": 30.0}
    assert record.curve("dev/wer") == {1: 40.0}
    assert record.state is TrialState.COMPLETE


def test_an_imported_trial_has_all_fields_and_every_epoch_has_a_time() -> None:
    event = TrialImported(
        time=50.0,
        number=0,
        source="old/7",
        epochs=(
            EpochReport(epoch=1, metrics={"dev/wer": 9.0}),
            EpochReport(time=7.0, epoch=2, metrics={"dev/wer": 8.0}),
        ),
        state=TrialState.COMPLETE,
        metrics={"dev/wer": 8.0, "in_domain/wer": 3.0},
        started=5.0,
        ended=8.0,
    )
    record = Trials([event])[0]
    assert [report.time for report in record.epochs] == [8.0, 7.0]
    assert (record.started, record.ended, record.source) == (5.0, 8.0, "old/7")
    assert record.metrics == {"dev/wer": 8.0, "in_domain/wer": 3.0}


def test_a_study_has_ended_until_another_event_follows_its_end() -> None:
    end = StudyEnded(state=TrialState.COMPLETE, best=0, best_recipe_hash="abc")
    trials = Trials([TrialStarted(number=0), end])
    assert (trials.has_ended, trials.study_state, trials.best) == (True, TrialState.COMPLETE, (0, "abc"))
    trials.apply(SessionStarted())
    assert not trials.has_ended


def test_a_record_is_a_value_that_no_later_event_changes() -> None:
    trials = Trials([TrialStarted(number=0)])
    before: TrialRecord = trials[0]
    trials.apply(TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 1.0}))
    assert (before.epochs, trials[0].epoch) == ((), 1)
    with pytest.raises(AttributeError):
        before.state = TrialState.FAILED  # type: ignore[misc]
