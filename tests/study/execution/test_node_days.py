"""Suspicions and exclusions of nodes last a day: what came before it says little of a node as it is now."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from watched_nodes import Watched, node

from study.execution.node_watch import EXCLUDED_SECONDS
from study.ledger.events import NodeExcluded
from study.workers.failure import Failure, FailureKind


def test_suspicions_that_are_days_apart_exclude_no_node() -> None:
    watched = Watched()
    for number in range(5):
        watched.suspect(number, "a")
        watched.now += 2 * EXCLUDED_SECONDS
    assert watched.excluded() == []
    watched.suspect(5, "a")
    watched.now += EXCLUDED_SECONDS - 1
    watched.suspect(6, "a")
    (event,) = watched.watch.take_exclusions()
    assert event.reason.startswith("trials 0005 and 0006 failed there")


@pytest.mark.parametrize("kind", [FailureKind.ERROR, FailureKind.STORAGE])
def test_an_exclusion_ends_after_a_day_and_with_it_what_led_to_it(kind: FailureKind) -> None:
    watched = Watched("ab")
    for number in range(1 if kind is FailureKind.STORAGE else 2):
        assert watched.fail(number, "a", kind)
        watched.watch.note_progress(number, 1)
    assert watched.excluded() == ["a"]
    watched.now += EXCLUDED_SECONDS - 1
    assert watched.watch.find_avoided(9) == ("a",)
    watched.now += 1
    assert watched.watch.find_avoided(9) == ()
    watched.suspect(9, "a")
    assert watched.excluded() == [], "a single new suspicion has excluded it"
    watched.suspect(8, "a")
    assert watched.excluded() == ["a"]


def test_a_study_whose_last_node_was_excluded_goes_on_when_that_is_over() -> None:
    watched = Watched("ab")
    for number in range(2):
        watched.suspect(number, "a")
    watched.nodes = [node("a")]
    assert watched.watch.find_exhaustion() == "only excluded nodes have room for a trial: host-a (10.0.0.97)"
    watched.now += EXCLUDED_SECONDS
    assert watched.watch.find_exhaustion() is None


def test_a_node_that_an_earlier_session_excluded_is_used_again_when_its_time_is_over() -> None:
    watched = Watched("ab")
    until = time.time() + 3600
    watched.watch.keep_excluded(
        [NodeExcluded(node="host-a (10.0.0.97)", node_id="old", reason="it is sick", until=until)]
    )
    watched.now += 3500
    assert watched.watch.find_avoided(0) == ("a",)
    watched.now += 101
    assert watched.watch.find_avoided(0) == ()


def test_a_trial_may_go_back_after_a_day_to_where_it_failed_and_what_it_does_there_suspects_nobody() -> None:
    watched = Watched("ab")
    assert watched.fail(0, "a")
    assert watched.fail(1, "a")
    watched.now += EXCLUDED_SECONDS
    for number in (0, 1):
        assert watched.watch.find_avoided(number) == ()
        watched.watch.note_progress(number, 1)
    assert watched.excluded() == []


def test_a_trial_that_found_no_room_beside_a_node_which_is_gone_since_is_tried_again() -> None:
    watched = Watched("ab")
    watched.nodes[0] = replace(watched.nodes[0], is_draining=True)
    assert watched.watch.find_avoided(0, and_draining=True) == ("a",)
    watched.nodes = [node("b")]
    no_room = Failure(FailureKind.START, "no room", lacks_room=True)
    assert watched.watch.tries_elsewhere(0, no_room, 0), "it counts as a retry"
    assert watched.watch.find_avoided(0, and_draining=True) == ()
    assert not watched.watch.tries_elsewhere(0, no_room, 0)


def test_a_node_that_is_used_again_is_not_excluded_for_what_failed_there_before() -> None:
    watched = Watched("ab")
    for number in range(4):
        assert watched.fail(number, "a")
    for number in (0, 1):
        watched.watch.note_progress(number, 1)
    assert watched.excluded() == ["a"]
    watched.watch.use_again("host-a")
    for number in (2, 3):
        watched.watch.note_progress(number, 1)
    assert watched.excluded() == []
