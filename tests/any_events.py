"""Events of every kind in any order, also such as no driver writes: for laws that hold whatever is in an event file."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from study.ledger.budget_events import BudgetReached, SessionWorkers, TestsStarted
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

NUMBERS, EPOCHS, TIMES = st.integers(0, 3), st.integers(1, 4), st.floats(1.0, 9e9)
FIGURE = st.floats(width=64) | st.sampled_from([math.nan, math.inf])
METRICS = st.dictionaries(st.sampled_from(["dev/wer", "train/loss", "test/a/wer"]), FIGURE, max_size=3)
VALUES = st.dictionaries(st.sampled_from(["a", "b"]), st.booleans() | st.integers(0, 9) | st.just(0.3) | st.just("é"))
SECONDS = st.builds(Seconds, training=st.none() | st.just(2.5), waiting=st.none() | st.just(0.0))
HOSTS = st.none() | st.sampled_from(["one", "two"])
REPORTS = st.builds(EpochReport, epoch=EPOCHS, step=st.none() | EPOCHS, metrics=METRICS, seconds=SECONDS, node=HOSTS)
DECODING: dict[str, Any] = {"beam": 4, "lengths": [1, 2.5], "name": None}
WORKERS = st.none() | st.builds(SessionWorkers, count=EPOCHS)
FINALIST, FOUND = Finalist(number=1, recipe_class="ed", figure=3.5, of=4), Found(recipe_class="ed", trial=1, point={})
EVENTS = st.one_of(
    st.builds(
        SessionStarted, time=TIMES, workers=WORKERS, alive_until=st.none() | TIMES, changed=st.just({"a": [1, ""]})
    ),
    st.builds(StudyInterrupted, time=TIMES, reason=HOSTS, best=st.none() | NUMBERS, best_recipe_hash=st.just("ab")),
    st.builds(StudyEnded, time=TIMES, state=st.just(TrialState.COMPLETE), best=st.none() | NUMBERS),
    st.builds(TrialStarted, time=TIMES, number=NUMBERS, values=VALUES, point=st.none() | VALUES, enqueued=HOSTS),
    st.builds(
        TrialEpoch, time=TIMES, number=NUMBERS, epoch=EPOCHS, metrics=METRICS, seconds=SECONDS, node=HOSTS, device=HOSTS
    ),
    st.builds(TrialPaused, time=TIMES, number=NUMBERS, epoch=EPOCHS),
    st.builds(TrialRetried, time=TIMES, number=NUMBERS, count=EPOCHS, lost_seconds=st.none() | st.just(1.5)),
    st.builds(TrialMoved, time=TIMES, number=NUMBERS, reason=st.just("drained")),
    st.builds(TrialEnded, time=TIMES, number=NUMBERS, state=st.sampled_from(TrialState), metrics=METRICS),
    st.builds(
        TrialImported,
        time=TIMES,
        number=NUMBERS,
        source=st.just("old/1"),
        state=st.just(TrialState.PRUNED),
        epochs=st.lists(REPORTS, max_size=3).map(tuple),
        metrics=METRICS,
    ),
    st.builds(
        TrialDecoded, time=TIMES, number=NUMBERS, decoding=st.just(DECODING), decoding_hash=st.just(""), metrics=METRICS
    ),
    st.builds(
        TrialDecodingSearched,
        time=TIMES,
        number=NUMBERS,
        decoding=st.just(DECODING),
        tried=st.just((DECODING, {"edits": [1, 2, 3, 4], "figure": math.nan})),
        stages=st.just(({"stage": "beam", "metrics": {"dev/wer": 3.5}},)),
        seconds=st.none() | st.just(4.5),
    ),
    st.builds(TestsStarted, time=TIMES, number=NUMBERS),
    st.builds(BudgetReached, time=TIMES, part=st.just("search"), budget=st.just({"hours": 3}), reason=st.just("full")),
    st.just(FinalistsChosen(time=3.0, metric="dev/wer", finalists=(FINALIST,), looks=3)),
    st.just(PriorRead(time=3.0, study="old", found=(FOUND,))),
    st.builds(
        NodeExcluded, time=TIMES, node=st.just("one"), node_id=st.just("aa"), reason=st.just("sick"), until=TIMES
    ),
    st.builds(
        ControlGiven,
        time=TIMES,
        who=st.just("ada@laptop"),
        command=st.sampled_from(["stop", "pause", "promote", "retry", "note", "drain", "set", "enqueue", "use"]),
        number=st.none() | NUMBERS,
        value=st.none() | st.sampled_from(["trials=4", "concurrent_trials=none", "one"]),
        id=st.none() | st.sampled_from("abc"),
    ),
)
