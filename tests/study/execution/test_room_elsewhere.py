"""A trial that has failed on a node while the others have no room: others start, and it does as soon as one has."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from open_session import OpenSession, report
from watched_nodes import Watched

from cluster.resources import ClusterUse, Node, NodeUse, TrialResources
from study.config.run_settings import WorkerSettings
from study.execution.capacity import LOOK_SECONDS, PATIENCE_SECONDS, Capacity
from study.execution.node_watch import EXCLUDED_SECONDS, NEXT_TURN_SECONDS, TURN_SECONDS, NodeWatch, WorkerNode
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind

SICK = Failure(FailureKind.ERROR, "KeyError: 3", "host-a", "a")
NO_ROOM = Failure(FailureKind.START, "no room within 60 s", lacks_room=True)


class Others:
    """The other tenants: which nodes have room, and which were asked for."""

    def __init__(self, *free: str) -> None:
        self.free = set(free)
        self.asked: list[tuple[str, ...]] = []

    def has_room(self, avoided: Collection[str]) -> bool:
        self.asked.append(tuple(avoided))
        return bool(self.free - set(avoided))


@pytest.fixture
def others(on_cluster: OpenSession) -> Others:
    """Tenants of the session's cluster, who use node b. Trial 0 has failed on node a."""
    others = Others("a")
    on_cluster.watch.watch_room(others.has_room)
    start(on_cluster)
    on_cluster.session.fail(0, SICK)
    return others


def start(session: OpenSession) -> int | None:
    trial = session.session.next()
    return None if trial is None else trial.number


def test_others_start_where_it_failed_and_it_does_when_another_node_has_room(
    on_cluster: OpenSession, others: Others
) -> None:
    assert start(on_cluster) == 1
    on_cluster.session.complete(1, {"dev/wer": 9.0})
    assert on_cluster.ledger.trials[0].state is TrialState.INTERRUPTED
    others.free.add("b")
    trial = on_cluster.session.next()
    assert trial is not None
    assert (trial.number, trial.avoided) == (0, ("a",))


def test_where_nothing_else_may_start_it_waits_and_the_study_does_not_end(
    on_cluster: OpenSession, others: Others
) -> None:
    while (number := start(on_cluster)) is not None:
        on_cluster.session.complete(number, {"dev/wer": 9.0})
    for _ in range(3):
        assert start(on_cluster) is None
        assert not on_cluster.session.is_done()
        assert not on_cluster.session.is_complete()
        assert not on_cluster.session.is_stopping()
    others.free = {"b"}
    assert start(on_cluster) == 0


def test_one_that_was_started_and_found_no_room_waits_again_and_no_retry_is_counted(
    on_cluster: OpenSession, others: Others
) -> None:
    others.free = {"b"}
    assert start(on_cluster) == 0
    others.free = {"a"}
    on_cluster.session.fail(0, NO_ROOM)
    record = on_cluster.ledger.trials[0]
    assert (record.state, record.retries) == (TrialState.INTERRUPTED, 0)
    assert record.reason == "no room within 60 s; tried again later"
    on_cluster.now += 60.0
    assert start(on_cluster) == 1


def test_the_test_sets_of_the_best_trial_are_scored_as_soon_as_another_node_has_room(
    on_cluster: OpenSession, others: Others
) -> None:
    others.free, wer = {"b"}, 8.0
    while (number := start(on_cluster)) is not None:
        assert not on_cluster.ledger.trials[number].epochs, "it is scored already"
        on_cluster.session.record_epoch(number, report(1))
        on_cluster.session.complete(number, {"dev/wer": wer, "dev/wer_final": wer})
        others.free, wer = {"a"}, 9.0
    assert not on_cluster.session.is_done()
    others.free = {"b"}
    trial = on_cluster.session.next()
    assert trial is not None
    assert (trial.number, trial.task.score_tests, trial.avoided) == (0, True, ("a",))


def test_it_goes_back_to_where_it_failed_after_a_day(on_cluster: OpenSession, others: Others) -> None:
    on_cluster.now += EXCLUDED_SECONDS
    trial = on_cluster.session.next()
    assert trial is not None
    assert (trial.number, trial.avoided) == (0, ())


def test_room_is_asked_for_only_where_a_trial_of_one_worker_has_failed() -> None:
    nodes = [WorkerNode(name, f"host-{name}", name, Node(2.0)) for name in "ab"]
    for count, expected in ((1, False), (2, True)):
        watch, others = NodeWatch(lambda: nodes, WorkerSettings(count=count)), Others("a")
        watch.watch_room(others.has_room)
        assert watch.has_room(0)
        assert others.asked == []
        assert watch.tries_elsewhere(0, SICK, 0)
        assert watch.has_room(0) is expected
        assert others.asked == [] if expected else [("a",)]


class Cluster:
    """Two machines of one CPU; one is free, the other one used by others."""

    def __init__(self) -> None:
        self.asked: tuple[int, Collection[str]] = (0, ())

    def look(self) -> ClusterUse:
        return ClusterUse((NodeUse(Node(1), Node(1)), NodeUse(Node(1), Node(0))))

    def ask(self, count: int, avoided: Collection[str] = ()) -> None:
        self.asked = count, tuple(avoided)

    def withdraw(self) -> None:
        self.asked = 0, ()


class Waiting:
    """A study of which so many trials wait, `bound` of them for other nodes than the free one."""

    def __init__(self, waiting: int, bound: int, wait_seconds: float | None = None) -> None:
        self.cluster, self.now = Cluster(), 0.0
        self.waiting, self.bound = waiting, bound
        self.stopped: str | None = None
        self.shown: list[str | None] = []
        self.capacity = Capacity(
            self.cluster,
            TrialResources(1, 1),
            lambda running: self.waiting,
            lambda concurrency, waits_for: self.shown.append(waits_for),
            self,
            wait_seconds=wait_seconds,
            may_grow=True,
            clock=lambda: self.now,
            find_bound=lambda: [("a",)] * self.bound,
        )

    def admits_after(self, seconds: float) -> bool:
        self.now += seconds
        return self.capacity.admits(0)


def test_where_all_that_waits_lacks_room_elsewhere_the_cluster_is_asked_for_that_and_the_wait_is_shown() -> None:
    study = Waiting(waiting=1, bound=1)
    assert study.admits_after(0), "a paused trial may be promoted"
    assert study.admits_after(0)
    assert study.cluster.asked == (1, ("a",)), "it was withdrawn for trials that do not come"
    study.admits_after(PATIENCE_SECONDS)
    assert study.shown[-1] == "waiting for 1 CPU on one node where its trial has not failed"
    study.bound = 0
    study.admits_after(LOOK_SECONDS)
    assert (study.cluster.asked, study.shown[-1]) == ((0, ()), None)


def test_where_others_wait_beside_it_they_have_the_room_and_nothing_is_asked_for() -> None:
    study = Waiting(waiting=2, bound=1, wait_seconds=30.0)
    for _ in range(9):
        assert study.admits_after(LOOK_SECONDS)
        assert study.cluster.asked == (0, ())
    study.admits_after(60.0)
    assert study.stopped is None


def test_a_study_that_can_run_nothing_else_stops_after_the_time_that_it_gives() -> None:
    study = Waiting(waiting=1, bound=1, wait_seconds=30.0)
    study.admits_after(0)
    study.admits_after(29.0)
    assert study.stopped is None
    study.admits_after(1.0)
    assert study.stopped == "waited 30 s (workers.wait_seconds) for 1 CPU on one node where its trial has not failed"


def test_one_that_has_waited_for_long_has_its_turn_and_where_it_finds_no_room_the_next_one_comes_later() -> None:
    watched = Watched("ab")
    watched.watch.watch_room(lambda avoided: False)  # new trials take every place that comes free
    for number in (0, 1):
        assert watched.fail(number, "a")
        assert not watched.watch.has_room(number)
    watched.now = TURN_SECONDS
    assert watched.watch.has_room(0)
    assert watched.watch.find_avoided(0, and_draining=True) == ("a",)  # it is placed
    assert not watched.watch.has_room(1)
    watched.now += TURN_SECONDS
    assert watched.watch.has_room(1)
    assert watched.watch.tries_elsewhere(0, NO_ROOM, 0)
    assert not watched.watch.has_room(1)
    watched.now += NEXT_TURN_SECONDS
    assert watched.watch.has_room(1)
    assert not watched.watch.has_room(0), "its wait begins again"


def test_one_that_failed_on_a_node_that_is_excluded_by_now_waits_like_any_other() -> None:
    watched = Watched("ab")
    watched.watch.watch_room(lambda avoided: False)
    assert watched.fail(2, "a")
    assert not watched.watch.has_room(2)
    for number in (0, 1):
        watched.suspect(number, "a")
    assert watched.excluded() == ["a"]
    assert watched.watch.has_room(2)
    assert watched.watch.find_avoided(2) == ("a",)
