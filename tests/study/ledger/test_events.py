"""Events are read back as they were written, and kinds that this version does not know are refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.ledger.budget_events import BudgetReached, SessionWorkers, TestsStarted
from study.ledger.event_lines import KINDS, UnknownKindError, from_line, to_line
from study.ledger.events import (
    ControlGiven,
    EpochReport,
    Finalist,
    FinalistsChosen,
    Found,
    NodeExcluded,
    PriorRead,
    Seconds,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialContinued,
    TrialDecoded,
    TrialDecodingSearched,
    TrialEnded,
    TrialEpoch,
    TrialImported,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)

VALUES = {"ctc_weight": 0.25, "auxiliary.placement": "1,3", "training.seed": 7, "training.compile": True}
REPORT = EpochReport(time=5.0, epoch=2, step=80, metrics={"dev/wer": 40.0}, seconds=Seconds(training=9.5))
EXAMPLES = [
    SessionStarted(version="0.2.0", node="a", process=7, trials=4, concurrency=2, sealed={"000001.jsonl": 99}),
    SessionStarted(workers=SessionWorkers(count=2, cpus=4.0, gpus=1.0), alive_until=9.5),
    TrialStarted(
        number=3, recipe_hash="abc", decoding={"beam": 4}, values=VALUES, point=VALUES, baseline="ed", epochs=6
    ),
    TrialEpoch(
        number=3, epoch=2, step=80, metrics={"dev/wer": 40.0}, seconds=Seconds(waiting=0.1), node="a", device="cpu"
    ),
    TrialPaused(number=3, epoch=2, reason="waits"),
    TrialContinued(number=3, epoch=2, reason="0 of 9 trials have a lower dev/wer, at most 3 may"),
    TrialRetried(
        number=3, reason="lost", count=2, setting="failures.retries 5", elsewhere=True, node="one", node_id="aa"
    ),
    TrialMoved(number=3, reason="Ray drains its node; the trial left it after epoch 2", node="one", node_id="aa"),
    TrialEnded(number=3, state=TrialState.INFEASIBLE, reason="no", values=VALUES, point=VALUES, count=1, setting="s"),
    TrialImported(number=3, source="old/7", epochs=(REPORT,), state=TrialState.PRUNED, started=1.0, ended=2.0),
    TrialDecoded(number=3, decoding={"beam": 4}, decoding_hash="abc", metrics={"dev/wer_final": 9.0}, seconds=3.0),
    TrialDecodingSearched(
        number=3, decoding={"beam": 4}, tried=({"seconds": 0.5},), stages=({"stage": "start"},), seconds=3.0, share=0.1
    ),
    TestsStarted(number=3),
    BudgetReached(part="search", budget={"hours": 24.0}, reason="budget: hours 23.9 of 24 used"),
    FinalistsChosen(
        metric="dev/wer_final",
        stage="CTC weight 0.5",
        finalists=(Finalist(number=3, recipe_class="ed", figure=20.5, of=4),),
        looks=8,
    ),
    PriorRead(study="studies/small", found=(Found(recipe_class="ed", trial=5, point=VALUES),)),
    StudyEnded(state=TrialState.COMPLETE, best=3, best_recipe_hash="abc"),
    StudyInterrupted(reason="the disk is full"),
    NodeExcluded(node="one", node_id="aa", reason="it does not see the study's folder", until=9.5),
    ControlGiven(who="ada@laptop", command="stop", number=3),
]


def test_every_kind_has_an_example_here() -> None:
    assert {event.kind for event in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.kind)
def test_an_event_is_read_back_as_it_was_written(event: Any) -> None:
    line = to_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read = from_line(line)
    assert read == event
    assert type(read) is type(event)
    values = getattr(event, "values", None) or {}
    assert {name: type(value) for name, value in values.items()} == {
        name: type(value) for name, value in (getattr(read, "values", None) or {}).items()
    }


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=True, allow_infinity=True), max_size=4))
def test_a_number_that_is_not_finite_is_null_in_the_line_and_nan_when_read(metrics: dict[str, float]) -> None:
    event = TrialEpoch(number=0, epoch=1, metrics=metrics)
    written = json.loads(to_line(event))["metrics"]
    read = from_line(to_line(event)).metrics  # type: ignore[union-attr]
    for name, value in metrics.items():
        if math.isfinite(value):
            assert written[name] == read[name] == value
        else:
            assert written[name] is None
            assert math.isnan(read[name])


def test_a_kind_of_a_newer_version_is_refused_by_its_name() -> None:
    with pytest.raises(UnknownKindError, match="the event's kind is 'trial_sold'"):
        from_line('{"time": 1.0, "kind": "trial_sold", "number": 3}')


def test_a_field_of_a_newer_version_is_ignored() -> None:
    line = '{"time": 1.0, "kind": "trial_paused", "number": 3, "epoch": 2, "mood": "good"}'
    assert from_line(line) == TrialPaused(time=1.0, number=3, epoch=2)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"3",
        b"{}",
        b'{"time": 1.0}',
        b'{"kind": "trial_paused", "number": 3, "epoch": 2}',
        b'{"time": 1.0, "kind": "trial_paused", "number": 3}',
        b'{"time": 1.0, "kind": "trial_ended", "number": 3, "state": "happy"}',
        b'{"time": 1.0, "kind": "trial_epoch", "number": "three", "epoch": 1}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_line_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_line(line)


def test_a_retry_of_a_version_that_knew_no_nodes_is_read_as_one_that_counts() -> None:
    read = from_line(
        '{"time": 1.0, "kind": "trial_retried", "number": 3, "reason": "lost", "count": 1, "setting": "s"}'
    )
    assert read == TrialRetried(time=1.0, number=3, reason="lost", count=1, setting="s", elsewhere=False)


def test_an_exclusion_of_a_version_that_kept_it_for_its_session_alone_is_read_as_one() -> None:
    read = from_line('{"time": 1.0, "kind": "node_excluded", "node": "one", "node_id": "aa", "reason": "it is sick"}')
    assert read == NodeExcluded(time=1.0, node="one", node_id="aa", reason="it is sick", until=None)


def test_a_line_of_format_1_is_read() -> None:
    """It has null for what was not given, seconds among the metrics, and another name for the start of a session."""
    epoch = (
        '{"time": 9.5, "kind": "trial_epoch", "number": 1, "epoch": 2, '
        '"metrics": {"dev/wer": null, "train/seconds": 8.0, "dev/seconds": 1.5}}'
    )
    read = from_line(epoch)
    assert isinstance(read, TrialEpoch)
    assert (read.epoch, read.step, read.time) == (2, None, 9.5)
    assert read.seconds == Seconds(training=8.0, validation=1.5)
    assert math.isnan(read.metrics["dev/wer"])
    started = from_line('{"time": 1.0, "kind": "study_started", "trials": 6, "concurrency": 2, "changed": {}}')
    assert started == SessionStarted(time=1.0, trials=6, concurrency=2)
    ended = from_line('{"time": 1.0, "kind": "trial_ended", "number": 0, "state": "complete", "reason": null}')
    assert ended == TrialEnded(time=1.0, number=0, state=TrialState.COMPLETE)
