"""Failures weighed by node: which are tried elsewhere, and which nodes are excluded for them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched_nodes import REASON, Watched, failed_on, node

from study.config.places import EXCLUDED_VARIABLE
from study.execution.node_watch import WEIGHED, read_excluded_nodes
from study.workers.failure import Failure, FailureKind


def test_nothing_is_tried_again_on_a_single_node() -> None:
    watched = Watched("a")
    assert not any(watched.fail(number, "a", kind) for number, kind in enumerate(FailureKind))
    assert watched.watch.find_avoided(0) == ()
    assert watched.excluded() == []


@pytest.mark.parametrize("kind", FailureKind)
def test_what_may_be_a_nodes_fault_is_tried_once_more_on_another_node(kind: FailureKind) -> None:
    watched = Watched()
    assert watched.fail(0, "a", kind) == (kind in WEIGHED)
    assert watched.watch.find_avoided(0) == (("a",) if kind in WEIGHED else ())
    assert watched.watch.find_avoided(1) == ()


def test_a_failure_whose_node_is_not_known_is_not_weighed() -> None:
    assert not Watched().watch.tries_elsewhere(0, Failure(FailureKind.ERROR, REASON), 0)


def test_what_fails_elsewhere_too_is_the_recipes_fault_and_no_nodes() -> None:
    watched = Watched()
    for number in range(4):
        assert watched.fail(number, "a")
        assert not watched.fail(number, "b")
    assert watched.excluded() == []


def test_two_trials_that_got_further_elsewhere_exclude_the_node_for_all_trials() -> None:
    watched = Watched()
    for number in (2, 5):
        assert watched.fail(number, "a", epoch=3)
        watched.watch.note_progress(number, 3)  # reported again: it is not beyond
        assert watched.excluded() == []
        watched.watch.note_progress(number, 4)
    (event,) = watched.watch.take_exclusions()
    assert (event.node_id, event.node) == ("a", "host-a (10.0.0.97)")
    assert (
        event.reason == f"trials 0002 and 0005 failed there and got further on other nodes, the last one with {REASON}"
    )
    assert watched.watch.find_avoided(9) == ("a",)
    assert watched.excluded() == [], "it was given twice"


def test_one_trial_alone_does_not_exclude_a_node_however_often_it_fails() -> None:
    watched = Watched()
    for epoch in range(3):
        assert watched.fail(0, "a", epoch=epoch)
        watched.watch.note_progress(0, epoch + 1)
    assert watched.excluded() == []


def test_a_trial_that_ends_elsewhere_without_another_epoch_got_further() -> None:
    watched = Watched()
    for number in (0, 1):
        watched.fail(number, "a", FailureKind.IMPOSSIBLE)
        watched.watch.note_progress(number)
    assert watched.excluded() == ["a"]


@pytest.mark.parametrize("then", ["it reports", "it fails otherwise"])
def test_a_node_without_the_studys_folder_is_excluded_when_one_other_node_sees_it(then: str) -> None:
    watched = Watched()
    reason = "node host-a does not see the study's folder /s/probe: mount it there"
    assert watched.watch.tries_elsewhere(0, failed_on("a", FailureKind.STORAGE, reason), 0)
    assert watched.fail(0, "b", FailureKind.STORAGE), "a third node may see it"
    assert watched.excluded() == []
    if then == "it reports":
        watched.watch.note_progress(0, 1)
    else:
        assert watched.fail(0, "c", FailureKind.ERROR) is False, "no fourth node is left"
    events = watched.watch.take_exclusions()
    assert [event.node_id for event in events] == ["a", "b"]
    assert events[0].reason == "it does not see the study's folder /s/probe: mount it there"


def test_a_folder_that_no_node_sees_is_not_tried_for_ever() -> None:
    watched = Watched()
    assert [watched.fail(0, name, FailureKind.STORAGE) for name in "abc"] == [True, True, False]
    assert watched.excluded() == []


def test_a_trial_that_fails_on_two_sick_nodes_one_after_the_other_is_not_lost() -> None:
    watched = Watched("abcd")
    for number, name in ((0, "a"), (1, "b")):
        watched.fail(number, name)
        watched.watch.note_progress(number, 1)
    assert watched.fail(2, "a")
    assert watched.fail(2, "b"), "the node is suspected by another trial"
    assert watched.watch.find_avoided(2) == ("a", "b")
    watched.watch.note_progress(2, 1)
    assert watched.excluded() == ["a", "b"]


def test_a_failure_on_an_excluded_node_is_tried_elsewhere() -> None:
    """A trial may have waited for its place there when the node was excluded."""
    watched = Watched()
    for number in (0, 1):
        watched.fail(number, "a")
        watched.watch.note_progress(number, 1)
    assert watched.excluded() == ["a"]
    assert watched.fail(2, "b")
    assert watched.fail(2, "a"), "though it has failed on another node before"


def test_the_last_node_with_room_is_not_excluded_and_stops_the_study_with_one_line() -> None:
    watched = Watched("ab")
    for number in (0, 1):
        assert watched.fail(number, "a")
    watched.watch.note_progress(0, 1)
    watched.nodes = [node("a")]  # the other one is gone
    watched.watch.note_progress(1, 1)
    assert watched.excluded() == []
    assert watched.watch.stopped is not None
    assert watched.watch.stopped.startswith("node host-a (10.0.0.97) is not usable, and no other node has room for a")


def test_a_trial_whose_other_nodes_are_gone_may_go_back_to_where_it_failed() -> None:
    watched = Watched("ab")
    assert watched.fail(0, "a")
    watched.nodes = [node("a")]
    assert watched.watch.find_avoided(0) == ()


@pytest.mark.parametrize(("cpus", "expected"), [(1, True), (2, True), (3, False)])
def test_a_node_that_is_too_small_for_a_worker_is_no_other_node(cpus: int, expected: bool) -> None:
    watched = Watched("ab", cpus=cpus)
    assert watched.fail(0, "a") == expected


@pytest.mark.parametrize(("count", "expected"), [(2, True), (4, True), (5, False)])
def test_the_other_nodes_must_have_room_for_all_workers_together(count: int, expected: bool) -> None:
    assert Watched("abc", count=count).fail(0, "a") == expected


@pytest.mark.parametrize("name", ["host-b", "10.0.0.98"])
def test_nodes_that_the_user_excludes_are_avoided_by_all_trials(name: str) -> None:
    watched = Watched(excluded=(name, "nowhere"))
    assert watched.watch.find_avoided(0) == ("b",)
    assert watched.watch.find_exhaustion() is None
    watched.nodes = [node("b")]
    assert watched.watch.find_exhaustion() == "only excluded nodes have room for a trial: host-b (10.0.0.98)"
    watched.nodes = []
    assert watched.watch.find_exhaustion() is None, "an autoscaler may bring others"


def test_the_users_list_is_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXCLUDED_VARIABLE, raising=False)
    assert read_excluded_nodes() == frozenset()
    monkeypatch.setenv(EXCLUDED_VARIABLE, " 10.0.0.1,two ,")
    assert read_excluded_nodes() == {"10.0.0.1", "two"}


def test_workers_that_find_no_room_on_the_nodes_that_are_left_wait_as_often_as_needed() -> None:
    watched = Watched("ab", count=2)
    no_room = Failure(FailureKind.START, "0 of 2 workers came", lacks_room=True)
    assert not watched.watch.tries_elsewhere(0, no_room, 0), "nothing is avoided: it is a start that failed"
    assert watched.fail(0, "a")
    assert all(watched.watch.tries_elsewhere(0, no_room, 0) for _ in range(9))
    watched.watch.note_progress(0, 1)
    assert watched.watch.find_avoided(0) == ("a",)


@given(seed=st.integers(0, 10**6), sick=st.sets(st.sampled_from("abcd"), max_size=3))
def test_only_sick_nodes_are_excluded_and_beside_a_single_one_no_trial_is_lost(seed: int, sick: set[str]) -> None:
    """Trials are placed anywhere but on what they avoid, and fail wherever the node is sick."""
    generator, watched = random.Random(seed), Watched("abcd")
    excluded: list[str] = []
    lost = 0
    for number in range(12):
        while True:
            avoided = watched.watch.find_avoided(number)
            assert not set(excluded) - set(avoided), "an excluded node was not avoided"
            place = generator.choice([name for name in "abcd" if name not in avoided])
            if place not in sick:
                watched.watch.note_progress(number, 1)
                break
            if not watched.fail(number, place):
                lost += 1
                break
        excluded += watched.excluded()
    assert set(excluded) <= sick
    assert len(excluded) == len(set(excluded))
    assert lost == 0 or len(sick) > 1


def test_a_trial_is_not_placed_on_a_node_that_ray_drains_even_where_no_other_has_room() -> None:
    watched = Watched("ab")
    watched.nodes[0] = replace(watched.nodes[0], is_draining=True)
    assert watched.watch.find_avoided(0, and_draining=True) == ("a",)
    assert watched.watch.find_avoided(0) == (), "Ray itself places nothing there"
    watched.nodes.pop()
    assert watched.watch.find_avoided(0, and_draining=True) == ("a",)
