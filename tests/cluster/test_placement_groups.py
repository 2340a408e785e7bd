"""Which placement groups are released after their maker's death, on a real Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from cluster import placement_groups
from cluster.placement_groups import (
    OrphanWatch,
    list_placement_groups,
    remove_orphaned_placement_groups,
    remove_placement_groups_of,
)

SECONDS = 60.0  # that a busy machine may take
BUNDLE = {"CPU": 0.1}


class _Maker:
    def make(self, cpus: float = 0.1, lifetime: str | None = None) -> str:
        group = ray.util.placement_group([{"CPU": cpus}], lifetime=lifetime)
        return str(group.id.hex())


@pytest.fixture
def start_maker(ray_here: None) -> Iterator[Callable[[], Any]]:
    """Starts actors that make placement groups; these are removed with the test."""
    actors: list[Any] = []

    def start() -> Any:
        actors.append(ray.remote(num_cpus=0)(_Maker).remote())
        return actors[-1]

    yield start
    for actor in actors:
        remove_placement_groups_of(actor._actor_id.hex())
        ray.kill(actor)


def kill(actor: Any) -> None:
    ray.kill(actor)
    wait_until(lambda: any(group.creator_is_dead for group in list_placement_groups()))


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, list_placement_groups()
        time.sleep(0.05)


def ids() -> set[str]:
    return {group.id for group in list_placement_groups()}


def test_only_the_groups_of_dead_actors_are_removed_whether_placed_or_waiting(start_maker: Callable[[], Any]) -> None:
    own = ray.util.placement_group([BUNDLE])  # of the job's process, as Tune's are
    dead, living = start_maker(), start_maker()
    placed, waiting = ray.get([dead.make.remote(), dead.make.remote(cpus=1000)])
    kept = ray.get(living.make.remote())
    assert ids() == {placed, waiting, kept}
    assert remove_orphaned_placement_groups() == 0
    wait_until(lambda: {group.id for group in list_placement_groups() if group.is_placed} == {placed, kept})
    kill(dead)
    assert ids() == {placed, waiting, kept}, "Ray removes them by itself now: this module is not needed"
    assert remove_orphaned_placement_groups() == 2
    wait_until(lambda: ids() == {kept})
    assert own.wait(SECONDS), "the group of the job's own process was removed"
    ray.util.remove_placement_group(own)


def test_a_detached_group_is_not_listed_and_so_never_removed(start_maker: Callable[[], Any]) -> None:
    group = ray.get(start_maker().make.remote(lifetime="detached"))
    assert group not in ids()
    assert group in ray.util.placement_group_table()
    placement_groups._remove([placement_groups.PlacementGroupRecord(group, "", True, True)])


def test_the_groups_of_one_actor_are_removed_while_it_lives(start_maker: Callable[[], Any]) -> None:
    first, second = start_maker(), start_maker()
    ray.get(first.make.remote())
    kept = ray.get(second.make.remote())
    (creator,) = [group.creator for group in list_placement_groups() if group.id != kept]
    remove_placement_groups_of(creator)
    wait_until(lambda: ids() == {kept})


def test_a_watch_removes_orphans_for_a_while_after_a_loss_and_does_nothing_before(
    start_maker: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, actor = OrphanWatch(), start_maker()
    group = ray.get(actor.make.remote())
    kill(actor)
    watch.step()
    assert ids() == {group}, "it asks Ray although nothing was lost"
    watch.begin()
    watch.step()
    wait_until(lambda: not ids())
    monkeypatch.setattr(placement_groups, "WATCH_SECONDS", -1.0)  # the time is over
    another = start_maker()
    group = ray.get(another.make.remote())
    kill(another)
    watch.begin()
    watch.step()
    assert ids() == {group}
