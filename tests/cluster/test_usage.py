"""What of a real Ray counts as free, as this study's and as others', and what becomes of requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from cluster.placement_groups import list_placement_groups, remove_placement_groups_of
from cluster.resources import ClusterUse, TrialResources
from cluster.usage import ClusterWatch, ask_for_report
from study.workers.placement import select_other_nodes

CPUS = 2  # of the tests' Ray
SECONDS = 60.0  # that a busy machine may take
ONE, PAIR = TrialResources(1, 1), TrialResources(2, 1)

Hold = Callable[..., Any]
Watch = Callable[..., ClusterWatch]


class _Maker:
    def make(self, bundles: list[dict[str, float]]) -> None:
        ray.get(ray.util.placement_group(bundles).ready())


@pytest.fixture
def hold(ray_here: None) -> Iterator[Hold]:
    """Make a placement group of so many CPUs in each bundle, and wait until it is placed; all are removed again."""
    groups = []

    def make(*cpus: float) -> Any:
        groups.append(ray.util.placement_group([{"CPU": amount} for amount in cpus]))
        assert groups[-1].wait(SECONDS)
        return groups[-1]

    yield make
    for group in groups:
        ray.util.remove_placement_group(group)


@pytest.fixture
def watch(ray_here: None) -> Iterator[Watch]:
    """Makes watches, whose requests are withdrawn in the end."""
    watches = []

    def start(trial: TrialResources, *excluded: str) -> ClusterWatch:
        watches.append(ClusterWatch(trial, lambda: excluded, select_other_nodes))
        return watches[-1]

    yield start
    for each in watches:
        each.withdraw()


def look_until(watch: ClusterWatch, is_so: Callable[[ClusterUse], bool]) -> ClusterUse:
    """The use, once it is so: Ray's head learns with a delay of what was released."""
    deadline = time.monotonic() + SECONDS
    while not is_so(use := watch.look()):
        assert time.monotonic() < deadline, use
        time.sleep(0.05)
    return use


def is_all_free(use: ClusterUse) -> bool:
    return use.placed == 0 and sum(node.room.cpus for node in use.nodes) == CPUS


def test_what_a_trial_holds_is_its_studys_and_everything_else_is_others(hold: Hold, watch: Watch) -> None:
    own = watch(ONE)
    look_until(own, is_all_free)
    hold(1.0)
    use = look_until(own, lambda use: use.nodes[0].free.cpus == 1)
    assert (use.placed, use.nodes[0].own.cpus, use.nodes[0].is_used_by_others) == (1, 1, False)
    assert use.count_trials(ONE) == CPUS
    hold(0.5)
    use = look_until(own, lambda use: use.nodes[0].free.cpus == 0.5)
    assert (use.placed, use.nodes[0].is_used_by_others) == (1, True)
    assert use.count_trials(ONE) == 1
    assert use.count_trials_alone(ONE) == CPUS


def test_a_group_of_workers_is_its_studys_while_its_maker_lives_and_released_when_that_is_dead(
    watch: Watch,
) -> None:
    own = watch(PAIR)
    look_until(own, is_all_free)
    maker = ray.remote(num_cpus=0)(_Maker).remote()
    try:
        ray.get(maker.make.remote([{"CPU": 1}, {"CPU": 1}]))
        use = look_until(own, lambda use: use.placed == 1)
        assert use.count_trials(PAIR) == 1
        assert not use.nodes[0].is_used_by_others
        ray.kill(maker)
        look_until(own, is_all_free)
        assert list_placement_groups() == []
    finally:
        remove_placement_groups_of(maker._actor_id.hex())
        ray.kill(maker)


def test_a_request_waits_while_there_is_no_room_and_is_removed_when_it_was_placed(hold: Hold, watch: Watch) -> None:
    own = watch(ONE)
    look_until(own, is_all_free)
    held = hold(2.0)
    own.ask(1)
    own.ask(1)
    use = look_until(own, lambda use: use.nodes[0].free.cpus == 0)
    assert use.count_trials(ONE) == 0
    assert list_requests() == ["PENDING"], "asked twice for one"
    ray.util.remove_placement_group(held)
    use = look_until(own, lambda use: use.count_trials(ONE) == CPUS)
    assert use.placed == 0
    use = look_until(own, lambda use: not list_requests())
    assert use.count_trials(ONE) == CPUS


def test_requests_that_are_withdrawn_leave_nothing_behind(hold: Hold, watch: Watch) -> None:
    own = watch(PAIR)
    hold(2.0)
    own.ask(3)
    assert list_requests() == ["PENDING"] * 3
    own.ask(1)
    assert list_requests() == ["PENDING"]
    own.withdraw()
    assert list_requests() == []


def test_a_request_is_not_placed_on_a_node_that_is_excluded(watch: Watch) -> None:
    own, excluding = watch(ONE), watch(ONE, ray.get_runtime_context().get_node_id())
    look_until(own, is_all_free)
    excluding.ask(1)
    own.ask(1)
    look_until(own, lambda use: len(list_requests()) == 1)  # the other one was placed, and removed
    assert list_requests() == ["PENDING"]


def test_workers_on_an_excluded_node_are_no_room_for_the_next_trial(hold: Hold, watch: Watch) -> None:
    here = ray.get_runtime_context().get_node_id()
    look_until(watch(ONE), is_all_free)
    hold(1.0)
    assert look_until(watch(ONE, "another"), lambda use: use.nodes[0].free.cpus == 1).placed == 1
    use = watch(ONE, here).look()
    assert use.placed == 0
    assert len(use.nodes) == 1, "the only node that could hold a trial is not left out: the study says so and stops"


def test_a_trial_has_room_beside_nodes_where_one_is_free_or_where_a_driver_surely_waits_for_nothing(
    hold: Hold, watch: Watch
) -> None:
    here = ray.get_runtime_context().get_node_id()
    own = watch(ONE)
    assert not own.has_room_beside((), running=0), "it has not looked yet"
    look_until(own, is_all_free)
    assert own.has_room_beside((), running=0)
    assert own.has_room_beside((), running=1), "of two places, the one that was started takes one"
    assert not own.has_room_beside((), running=2)
    assert not own.has_room_beside((here,), running=0)
    hold(1.0)
    hold(1.0)
    look_until(own, lambda use: use.placed == 2 and use.nodes[0].free.cpus == 0)
    assert own.has_room_beside((), running=1), "one of two drivers has no trial"
    assert not own.has_room_beside((), running=2)
    assert not own.has_room_beside((here,), running=0)


def test_trials_on_a_node_that_is_excluded_are_not_on_their_way_elsewhere(hold: Hold, watch: Watch) -> None:
    excluding = watch(ONE, ray.get_runtime_context().get_node_id())
    look_until(watch(ONE), is_all_free)
    hold(1.0)
    use = look_until(excluding, lambda use: use.nodes[0].free.cpus == 1)
    assert use.placed == 0
    assert excluding.has_room_beside((), running=1)


def test_a_request_for_other_nodes_waits_though_there_is_room_and_is_replaced_by_one_for_any(watch: Watch) -> None:
    here, own = ray.get_runtime_context().get_node_id(), watch(ONE)
    look_until(own, is_all_free)
    for _ in range(3):
        own.ask(1, (here,))
        own.look()
        time.sleep(0.2)
    assert list_requests() == ["PENDING"]
    own.ask(1)
    look_until(own, lambda use: not list_requests())


def list_requests() -> list[str]:
    """The states of the placement groups of single CPUs."""
    groups = ray.util.placement_group_table().values()
    return [
        group["state"] for group in groups if {"CPU": 1.0} in group["bundles"].values() if group["state"] != "REMOVED"
    ]


def test_a_node_that_is_asked_for_a_report_runs_a_task_beside_all_that_holds_its_cpus(hold: Hold) -> None:
    hold(CPUS)
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    assert ray.get(ask_for_report(node["NodeID"], node["NodeManagerAddress"]), timeout=SECONDS) is None
