"""The checks of what faults must not break find what they are there for: one that cannot fail proves nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaos.fault_schedule import draw_scenario
from chaos.invariants import has_order_since_end
from chaos.orders import FollowedOrders, Orders
from chaos.session_output import assert_command_ended_well, assert_ended_well
from chaos.shown_status import assert_status_agrees
from chaos.spent_budget import read_times, sum_overlaps, sum_up
from pydantic_core import to_json

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.display.status_json import make_status
from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    SessionStarted,
    StudyEnded,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialStarted,
    TrialState,
)
from study.ledger.ledger import Ledger

STOPPED, PAUSED, PROMOTED = (
    ControlGiven(who="ada", command=command, number=0) for command in ("stop", "pause", "promote")
)
STUDY_PAUSED, DRAINED = (ControlGiven(who="ada", command=command) for command in ("pause", "drain"))
ONE_AT_A_TIME = ControlGiven(who="ada", command="set", value="concurrent_trials=1")
FORBIDDEN: list[tuple[list[AnyEvent], AnyEvent]] = [
    ([STOPPED, TrialEpoch(number=0, epoch=1)], TrialEpoch(number=0, epoch=2)),
    ([PAUSED, TrialEpoch(number=0, epoch=1)], TrialEpoch(number=0, epoch=2)),
    ([STUDY_PAUSED, TrialEpoch(number=0, epoch=1)], TrialEpoch(number=0, epoch=2)),
    ([PAUSED], TrialStarted(number=0)),
    ([STUDY_PAUSED], TrialStarted(number=1)),
    ([DRAINED], TrialStarted(number=1)),
    ([PROMOTED], TrialEnded(number=0, state=TrialState.PRUNED, reason="behind its rung")),
    ([TrialStarted(number=0), TrialStarted(number=1)], TrialStarted(number=2)),
    ([TrialStarted(number=0), ONE_AT_A_TIME], TrialStarted(number=1)),
]


@pytest.mark.parametrize(("before", "event"), FORBIDDEN)
def test_an_event_that_an_order_forbids_is_found(before: list[AnyEvent], event: AnyEvent) -> None:
    followed = FollowedOrders(most=2)
    for earlier in before:
        followed.apply(earlier)
    with pytest.raises(AssertionError):
        followed.apply(event)


def test_orders_that_were_taken_back_forbid_nothing() -> None:
    followed = FollowedOrders()
    resumed, retried = ControlGiven(who="ada", command="resume"), ControlGiven(who="ada", command="retry", number=0)
    for event in (STUDY_PAUSED, resumed, DRAINED, SessionStarted(), STOPPED, retried, PROMOTED):
        followed.apply(event)
    for epoch in (1, 2, 2, 3):
        followed.apply(TrialEpoch(number=0, epoch=epoch))
    followed.apply(TrialStarted(number=1))
    followed.apply(TrialEnded(number=0, state=TrialState.PRUNED, reason="stopped by ada"))


def test_a_command_that_was_answered_and_is_not_recorded_is_found_and_one_that_is_recorded_twice() -> None:
    orders = Orders()
    orders.acknowledge("trial", "0", "stop")
    given = ControlGiven(who="ada", command="stop", number=0, id="a")
    orders.check([given])
    with pytest.raises(AssertionError, match="not recorded"):
        orders.check([])
    with pytest.raises(AssertionError, match="recorded twice"):
        orders.check([given, given])


CONTINUES = "continue with: decred-study run study.yaml"
STOP = f"stopped: Ray has ended. Correct it, then {CONTINUES}\n"
SIGNAL = f"stopped; what was done is in studies/probe. C{CONTINUES[1:]}\n"
REFUSED = "error: the disk is full\n"


def end(code: int, output: str) -> Any:
    return SimpleNamespace(process=SimpleNamespace(returncode=code), output=output)


@pytest.mark.parametrize(("code", "output"), [(0, "best: trial 0\n"), (1, STOP), (2, REFUSED), (130, SIGNAL)])
def test_a_session_that_says_in_one_line_why_it_ended_is_accepted(code: int, output: str) -> None:
    assert_ended_well(end(code, output), was_asked=code == 130)


@pytest.mark.parametrize(
    ("code", "output", "was_asked", "message"),
    [
        (0, STOP, False, "of a session that was stopped"),
        (0, REFUSED, False, "1 lines of error"),
        (1, "", False, "0 lines on the stop"),
        (1, STOP + STOP, False, "2 lines on the stop"),
        (1, "stopped: Ray has ended\n", False, "stopped: Ray has ended"),
        (2, "", False, "0 lines of error"),
        (2, REFUSED + REFUSED, False, "2 lines of error"),
        (130, SIGNAL, False, "nobody has asked for it"),
        (-signal.SIGTERM, "", False, "nobody has asked for it"),
        (130, SIGNAL + SIGNAL, True, "2 lines on the stop"),
        (3, "", False, "exit code 3"),
    ],
)
def test_a_session_that_ends_otherwise_is_found(code: int, output: str, was_asked: bool, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_ended_well(end(code, output), was_asked)


@pytest.mark.parametrize(("code", "output"), [(1, ""), (2, ""), (0, REFUSED), (2, "Traceback (most recent call last)")])
def test_a_command_that_fails_without_its_one_line_is_found(code: int, output: str) -> None:
    assert_command_ended_well(end(0, "trial 0"))
    assert_command_ended_well(end(2, REFUSED))
    with pytest.raises(AssertionError):
        assert_command_ended_well(end(code, output))


def test_a_study_that_has_not_ended_needs_a_command_that_came_after_its_end() -> None:
    more = ControlGiven(who="ada", command="set", value="trials=9")
    ended = StudyEnded(state=TrialState.COMPLETE)
    assert not has_order_since_end([more])
    assert not has_order_since_end([more, ended])
    assert has_order_since_end([ended, more])


def test_what_trials_used_is_counted_from_their_events() -> None:
    times = read_times(
        [
            SessionStarted(time=0),
            TrialStarted(time=10, number=0, epochs=4),
            TrialEpoch(time=15, number=0, epoch=1),
            TrialEpoch(time=17, number=0, epoch=2),
            TrialPaused(time=18, number=0, epoch=2),
            TrialStarted(time=20, number=1, epochs=4),
            TrialEpoch(time=26, number=1, epoch=1),  # its driver was killed
            SessionStarted(time=100),
            TrialStarted(time=101, number=0, epochs=4),
            TrialEpoch(time=104, number=0, epoch=3),
        ]
    )
    assert times[0].spans == [(10, 18), (101, 104)]
    assert times[1].spans == [(20, 26)]
    assert sum_up(times.values()) == 8 + 3 + 6
    assert sum_overlaps(times.values(), [(0, 12), (25, 102)]) == 2 + 1 + 1
    assert times[0].estimate_whole() == 5 + 3 * 2 + 1
    assert times[1].estimate_whole() is None


def test_status_that_differs_from_the_events_is_found(tmp_path: Path) -> None:
    content = draw_scenario(1, [("kill_driver", None, 1.0)]).make_study("/speech", str(tmp_path), None, {})
    ledger = Ledger.create_or_open(tmp_path / "probe", StudyFile.model_validate(content), named_recipe("tiny", "c"), {})
    ledger.start_session()
    for event in (
        TrialStarted(number=0, values={"ctc_weight": 0.3}, epochs=2),
        TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 40.0}),
        TrialEpoch(number=0, epoch=2, metrics={"dev/wer": 20.0}),
        TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"dev/wer": 20.0}),
        TrialStarted(number=1, values={"ctc_weight": 0.3}, epochs=2),
    ):
        ledger.append(event)
    assert_status_agrees(ledger, to_json(make_status(ledger)).decode())
    for name, wrong in (("state", "pruned"), ("epoch", 1), ("metrics", {"dev/wer": 19.0}), ("values", {})):
        shown = make_status(ledger)
        shown["trials"][0][name] = wrong
        with pytest.raises(AssertionError):
            assert_status_agrees(ledger, to_json(shown).decode())
    shown = make_status(ledger)
    del shown["trials"][1]
    with pytest.raises(AssertionError):
        assert_status_agrees(ledger, to_json(shown).decode())
