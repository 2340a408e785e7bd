"""When a trial may start, what is shown while it may not, and when a study that waits stops: laws of numbers."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import ClusterUse, Node, NodeUse, TrialResources
from study.execution.capacity import GONE_SECONDS, LOOK_SECONDS, LOST_SECONDS, PATIENCE_SECONDS, Capacity

ONE, PAIR = TrialResources(1, 1), TrialResources(2, 1)


@dataclass
class FakeCluster:
    """A cluster whose use is set by hand."""

    use: ClusterUse
    asked: int = 0
    avoided: Collection[str] = ()  # by what was asked for
    looks: int = 0

    def look(self) -> ClusterUse:
        self.looks += 1
        return self.use

    def ask(self, count: int, avoided: Collection[str] = ()) -> None:
        self.asked, self.avoided = count, avoided

    def withdraw(self) -> None:
        self.asked = 0


@dataclass
class Probe:
    """A study on such a cluster, with a clock, and what its board showed."""

    cluster: FakeCluster
    trial: TrialResources = ONE
    waiting: int = 9
    most: int | None = None
    wait_seconds: float | None = None
    may_grow: bool = True
    now: float = 0.0
    stopped: str | None = None
    shown: list[tuple[int, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.capacity = Capacity(
            self.cluster,
            self.trial,
            lambda running: self.waiting,
            lambda concurrency, waits_for: self.shown.append((concurrency, waits_for)),
            self,
            self.most,
            self.wait_seconds,
            self.may_grow,
            lambda: self.now,
        )

    def admits_after(self, seconds: float, running: int) -> bool:
        self.now += seconds
        return self.capacity.admits(running)

    @property
    def wait(self) -> str | None:
        return self.shown[-1][1]


def machines(*free: float, total: float = 1, own: float = 0) -> tuple[NodeUse, ...]:
    return tuple(NodeUse(Node(total), Node(cpus), Node(own)) for cpus in free)


def probe(*free: float, placed: int = 0, own: float = 0, total: float = 1, **settings: object) -> Probe:
    cluster = FakeCluster(ClusterUse(machines(*free, total=total, own=own), placed))
    return Probe(cluster, **settings)  # type: ignore[arg-type]


def test_trials_start_until_the_free_machines_are_full_and_each_one_counts_from_its_start_on() -> None:
    study = probe(1, 1)
    assert [study.admits_after(0, running) for running in (0, 1, 2)] == [True, True, False]
    assert study.cluster.looks == 1, "the cluster is looked at once a second"


def test_workers_that_wait_for_the_next_trial_count_as_room_for_it() -> None:
    study = probe(0, placed=1, own=1)
    assert study.admits_after(0, running=0)
    assert not study.admits_after(0, running=1)


def test_a_machine_that_joins_is_used_at_the_next_look_and_one_that_goes_is_not() -> None:
    study = probe(0, placed=1, own=1)
    assert not study.admits_after(0, running=1)
    study.cluster.use = ClusterUse((*machines(0, own=1), *machines(1)), placed=1)
    assert not study.admits_after(LOOK_SECONDS / 2, running=1)
    assert study.admits_after(LOOK_SECONDS, running=1)
    study.cluster.use = ClusterUse(())
    assert not study.admits_after(LOOK_SECONDS, running=0)


def test_no_more_run_than_the_study_allows_though_more_fit() -> None:
    study = probe(1, 1, 1, most=2)
    assert [study.admits_after(LOOK_SECONDS, running) for running in (0, 1, 2)] == [True, True, False]
    assert study.admits_after(PATIENCE_SECONDS, 2) is False
    assert (study.wait, study.cluster.asked) == (None, 0)


amounts = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0])
shapes = st.builds(
    TrialResources, st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.0, 0.5, 1.0])
)


@st.composite
def uses(draw: st.DrawFn) -> ClusterUse:
    """Machines, parts of which others hold; the figures of what is free may be older than those of what is held."""
    nodes = []
    for _ in range(draw(st.integers(0, 5))):
        total = Node(draw(amounts), draw(amounts))
        nodes.append(NodeUse(total, Node(min(draw(amounts), total.cpus), min(draw(amounts), total.gpus))))
    return ClusterUse(tuple(nodes))


def place_one_by_one(use: ClusterUse, trial: TrialResources) -> int:
    """How many trials fit, found by placing worker after worker."""
    left = [[node.free.cpus, node.free.gpus] for node in use.nodes]
    workers = 0
    for node in left:
        while node[0] >= trial.cpus and node[1] >= trial.gpus:
            node[0], node[1], workers = node[0] - trial.cpus, node[1] - trial.gpus, workers + 1
    return workers // trial.count


@given(use=uses(), trial=shapes, placed=st.integers(0, 3), most=st.none() | st.integers(1, 4))
def test_as_many_start_as_fit_never_more_and_never_none_where_one_fits(
    use: ClusterUse, trial: TrialResources, placed: int, most: int | None
) -> None:
    study = Probe(FakeCluster(ClusterUse(use.nodes, placed)), trial, most=most)
    running = 0
    while study.admits_after(0, running):
        running += 1
    fitting = placed + place_one_by_one(use, trial)
    assert running == min(fitting, fitting if most is None else most)


@given(use=uses(), trial=shapes)
def test_figures_of_different_times_never_make_room_that_no_machine_has(use: ClusterUse, trial: TrialResources) -> None:
    """What this study holds is known first; what is free may still have it."""
    held = [NodeUse(node.total, node.total, own=node.total) for node in use.nodes]
    assert ClusterUse(tuple(held)).count_trials(trial) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40), shapes, st.none() | st.integers(1, 3))
def test_requests_are_never_more_than_what_waits_and_none_is_left_when_a_trial_starts(
    steps: list[tuple[int, int]], trial: TrialResources, most: int | None
) -> None:
    study = probe(0, most=most)
    for placed, running in steps:
        study.cluster.use = ClusterUse(machines(0), placed)
        is_admitted = study.admits_after(LOOK_SECONDS, running)
        assert study.cluster.asked <= study.waiting
        assert most is None or study.cluster.asked + running <= max(most, running)
        assert not (is_admitted and study.cluster.asked)
        assert running <= placed or not study.cluster.asked, "it takes what the workers of a trial wait for"


def test_a_cluster_is_asked_for_one_more_trial_or_for_as_many_as_the_study_says() -> None:
    study = probe(0, placed=1, own=1)
    study.admits_after(0, running=1)
    assert study.cluster.asked == 1
    study = probe(0, placed=1, own=1, most=4)
    study.admits_after(0, running=1)
    assert study.cluster.asked == 3
    study.waiting = 1
    study.admits_after(LOOK_SECONDS, running=1)
    assert study.cluster.asked == 1
    study.capacity.close()
    assert study.cluster.asked == 0


def test_nothing_is_asked_of_a_ray_that_cannot_grow() -> None:
    study = probe(0, may_grow=False)
    study.admits_after(0, running=0)
    assert study.cluster.asked == 0


def test_a_wait_is_shown_when_it_lasts_and_until_it_is_over() -> None:
    study = probe(0, 1)
    study.admits_after(0, running=1)
    assert study.shown == [(1, None)]
    study.admits_after(PATIENCE_SECONDS, running=1)
    assert study.shown[-1] == (1, "waiting for 1 CPU on one node; 1 of 2 nodes is used by others")
    study.cluster.use = ClusterUse(machines(1, 1))
    study.admits_after(LOOK_SECONDS, running=1)
    assert study.shown[-1] == (2, None)


def test_the_trials_that_wait_for_others_of_their_own_study_are_not_shown_as_waiting() -> None:
    study = probe(0, placed=1, own=1)
    study.admits_after(0, running=1)
    study.admits_after(PATIENCE_SECONDS, running=1)
    assert study.wait is None


def test_a_started_trial_whose_machine_went_is_shown_as_waiting_though_no_other_does() -> None:
    study = probe(0, placed=1, own=1, waiting=0)
    study.admits_after(0, running=2)
    study.admits_after(PATIENCE_SECONDS, running=2)
    assert study.wait == "waiting for 1 CPU on one node; 1 node has no more room"


@pytest.mark.parametrize(
    ("trial", "nodes", "words"),
    [
        (ONE, (), "1 CPU on one node; the cluster has no node"),
        (PAIR, machines(1), "2 workers with 1 CPU each; the cluster has 1 node with 1 CPU and 0 GPUs"),
        (
            TrialResources(1, 4, 1),
            machines(1, 2, total=2),
            "4 CPUs and 1 GPU on one node; the cluster has 2 nodes, the largest with 2 CPUs and 0 GPUs",
        ),
        (PAIR, machines(0, 0), "2 workers with 1 CPU each; 2 of 2 nodes are used by others"),
        (ONE, (*machines(0, total=0), *machines(0)), "1 CPU on one node; 1 of 1 node is used by others"),
    ],
)
def test_what_is_shown_names_what_waits_and_why(trial: TrialResources, nodes: tuple[NodeUse, ...], words: str) -> None:
    study = Probe(FakeCluster(ClusterUse(nodes)), trial)
    study.admits_after(0, running=0)
    study.admits_after(PATIENCE_SECONDS, running=0)
    assert study.wait == f"waiting for {words}"


def stops_after(study: Probe) -> float:
    """Seconds until it stops; infinite where it still waits after a week."""
    study.admits_after(0, running=0)
    for seconds in (30.0, GONE_SECONDS, 7 * 86400.0):
        study.admits_after(seconds - 1 - study.now, running=0)
        if study.stopped is None:
            study.admits_after(1, running=0)
            if study.stopped is not None:
                return seconds
    return math.inf


def test_a_study_that_has_lost_the_node_of_its_own_ray_stops_soon_because_no_other_will_come() -> None:
    study = probe(may_grow=False)
    for seconds in (0.0, LOST_SECONDS - 1):
        study.admits_after(seconds, running=1)
        assert study.stopped is None
    study.admits_after(1, running=1)
    assert study.stopped == (
        "waited 10 s (workers.wait_seconds sets another time) for 1 CPU on one node; the cluster has no node"
    )


def test_a_study_stops_after_the_time_that_it_gives_and_by_default_only_where_the_machines_are_gone() -> None:
    assert stops_after(gone := probe()) == GONE_SECONDS
    assert gone.stopped == (
        "waited 600 s (workers.wait_seconds sets another time) for 1 CPU on one node; the cluster has no node"
    )
    assert stops_after(probe(0)) == math.inf, "others use the machine, as long as they need"
    assert stops_after(probe(wait_seconds=30.0)) == 30.0
    assert stops_after(used := probe(0, wait_seconds=30.0)) == 30.0
    assert used.stopped == ("waited 30 s (workers.wait_seconds) for 1 CPU on one node; 1 of 1 node is used by others")


def test_the_time_begins_anew_when_a_trial_had_room_and_does_not_run_while_nothing_waits() -> None:
    study = probe(wait_seconds=30.0)
    study.admits_after(0, running=0)
    study.cluster.use = ClusterUse(machines(1))
    assert study.admits_after(29, running=0)
    study.cluster.use = ClusterUse(())
    study.admits_after(1, running=0)
    study.admits_after(29, running=0)
    assert study.stopped is None
    study.waiting = 0
    study.admits_after(1, running=0)
    study.admits_after(60, running=0)
    assert study.stopped is None
