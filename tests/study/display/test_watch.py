"""A study is followed from its ledger: nothing is shown twice or left out, and the view ends with the study."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_session import STUDY, TINY
from rich.console import Console

from study.display.study_state import StudyState
from study.display.watch import Follower, watch
from study.ledger.events import (
    AnyEvent,
    NodeExcluded,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
)
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

STARTED = TrialStarted(number=0, values={"ctc_weight": 0.25}, epochs=2)
EPOCH = TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 30.0, "dev/ilm_perplexity": 9.0})
COMPLETE = TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"dev/wer": 28.0})


def new_ledger(folder: Path) -> Ledger:
    return Ledger.create_or_open(folder, STUDY, TINY, {"id": "abc"})


class OtherProcess:
    """Runs a study while it is watched: writes some events at each look, then releases the study."""

    def __init__(self, folder: Path, steps: list[list[AnyEvent]]) -> None:
        self.ledger = new_ledger(folder)
        self.ledger.start_session(2, 1)
        self._steps, self._stack = iter(steps), contextlib.ExitStack()
        self._stack.enter_context(hold_lease(folder))

    def sleep(self, seconds: float) -> None:
        assert seconds >= 2.0
        step = next(self._steps, None)
        for event in step or ():
            self.ledger.append(event)
        if step is None:
            self._stack.close()


def follow(folder: Path, steps: list[list[AnyEvent]], terminal: bool = False) -> tuple[StudyState, str]:
    process = OtherProcess(folder, steps)
    console = Console(file=io.StringIO(), width=200, height=40, force_terminal=terminal)
    state = watch(Ledger.open(folder), Path("s.yaml"), console, sleep=process.sleep)
    return state, console.file.getvalue()  # type: ignore[attr-defined]


def test_without_a_terminal_each_event_is_a_line_and_the_last_one_is_the_state(tmp_path: Path) -> None:
    steps: list[list[AnyEvent]] = [
        [STARTED],
        [],
        [EPOCH, COMPLETE],
        [StudyEnded(state=TrialState.COMPLETE, best=0)],
    ]
    state, printed = follow(tmp_path / "s", steps)
    assert state is StudyState.COMPLETE
    assert printed.splitlines() == [
        "study s: 0 trials so far, 0 running",
        "trial 0000 started: ctc_weight 0.25",
        "trial 0000 epoch 1/2: WER 30.00, ILM ppl 9.00",
        "trial 0000 complete",
        "the study ended: complete; trial 0000 is the best",
        "study s: complete",
    ]


def test_every_event_that_changes_what_people_see_has_a_line(tmp_path: Path) -> None:
    steps: list[list[AnyEvent]] = [
        [
            STARTED,
            TrialPaused(number=0, epoch=1, reason="waits at its rung"),
            TrialRetried(number=0, reason="a worker was lost", count=1),
            TrialMoved(number=0, reason="its node is drained"),
            NodeExcluded(node="a", node_id="1", reason="it is sick"),
            StudyInterrupted(reason="no room"),
        ]
    ]
    state, printed = follow(tmp_path / "s", steps)
    assert state is StudyState.INTERRUPTED
    assert printed.splitlines()[2:] == [
        "trial 0000 waits: waits at its rung",
        "trial 0000 is tried again: a worker was lost",
        "trial 0000 moves: its node is drained",
        "node a is excluded: it is sick",
        "the study was stopped: no room",
        "study s: interrupted (no room)",
    ]


def test_on_a_terminal_the_table_is_drawn_and_the_last_one_stays(tmp_path: Path) -> None:
    state, printed = follow(tmp_path / "s", [[STARTED, EPOCH], [COMPLETE, StudyEnded(state=TrialState.COMPLETE)]], True)
    assert state is StudyState.COMPLETE
    assert "30.00" in printed
    assert "28.00" in printed.rsplit("study s", 1)[-1]


def test_a_study_that_does_not_run_is_shown_once(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path / "s")
    ledger.start_session(1, 1)
    console = Console(file=io.StringIO(), width=200)

    def refuse(seconds: float) -> None:
        raise AssertionError("nothing is waited for")

    assert watch(Ledger.open(ledger.folder), Path("s"), console, sleep=refuse) is StudyState.INTERRUPTED
    last = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert last == "study s: interrupted (no process runs it, the last one died)"


def test_a_new_session_that_cuts_a_frozen_drivers_file_is_followed(tmp_path: Path) -> None:
    frozen, next_driver = new_ledger(tmp_path / "s"), new_ledger(tmp_path / "s")
    frozen.start_session(2, 1)
    frozen.append(STARTED)
    follower = Follower(Ledger.open(tmp_path / "s"))
    next_driver.start_session(2, 1)
    frozen.append(EPOCH)  # behind the seal: it does not count
    next_driver.append(TrialStarted(number=1))
    assert [event.kind for event in follower.read()] == ["session_started", "trial_started"]
    assert follower.ledger.trials == Ledger.open(tmp_path / "s").trials
    assert follower.ledger.trials[0].epoch == 0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["start", "epoch", "end", "session", "look"]), st.integers(0, 3)), max_size=30)
)
def test_however_often_it_is_looked_at_the_trials_are_those_of_the_whole_ledger(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger") / "s"
    ledger = new_ledger(folder)
    ledger.start_session(4, 1)
    follower, seen, epochs = Follower(Ledger.open(folder)), 1, 0
    writes: dict[str, Callable[[int], object]] = {
        "start": lambda number: ledger.append(TrialStarted(number=number)),
        "epoch": lambda number: ledger.append(TrialEpoch(number=number, epoch=epochs, metrics={"dev/wer": 1.0})),
        "end": lambda number: ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE)),
        "session": lambda _: ledger.start_session(4, 1),
    }
    for what, number in [*steps, ("look", 0)]:
        epochs += 1
        if what == "look":
            seen += len(follower.read())
            assert dict(follower.ledger.trials) == dict(Ledger.open(folder).trials)
        else:
            writes[what](number)
    assert seen == len(ledger.log.read()), "an event was shown twice, or not at all"
