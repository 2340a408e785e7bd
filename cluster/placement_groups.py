"""Placement groups that an actor made, and that Ray keeps when the actor is dead, until the whole job ends.

Ray's head knows of each group which actor made it and whether that one is dead, from the moment that it is made: so a
group is released by what its maker has become, never by an id that was sent and may have become another's.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

WATCH_SECONDS = 60.0  # Ray notices the death of an actor, and of those that it started, within seconds
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class PlacementGroupRecord:
    """A placement group of this job that an actor made. Ids are hexadecimal."""

    id: str
    creator: str
    creator_is_dead: bool
    is_placed: bool  # false while it waits for resources


def list_placement_groups() -> list[PlacementGroupRecord]:
    """Those of this job that actors made, but for detached and removed ones."""
    import ray
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    job = ray.get_runtime_context().get_job_id()
    lines = state._connect_and_get_accessor().get_placement_group_table()
    groups = [PlacementGroupTableData.FromString(line) for line in lines]
    return [
        PlacementGroupRecord(
            group.placement_group_id.hex(),
            group.creator_actor_id.hex(),
            group.creator_actor_dead,
            group.state == PlacementGroupTableData.CREATED,
        )
        for group in groups
        if group.creator_job_id.hex() == job
        and group.creator_actor_id.strip(b"\xff")  # else the job's own process made it
        and not group.is_detached
        and group.state != PlacementGroupTableData.REMOVED
    ]


def remove_placement_groups_of(creator: str) -> None:
    """Release the placement groups that the actor with this id made."""
    _remove([group for group in list_placement_groups() if group.creator == creator])


def remove_orphaned_placement_groups() -> int:
    """Release the placement groups whose maker is dead; how many there were."""
    orphans = [group for group in list_placement_groups() if group.creator_is_dead]
    _remove(orphans)
    return len(orphans)


class OrphanWatch:
    """Releases orphaned placement groups for a while after a process was lost that may have left one."""

    def __init__(self) -> None:
        self._until = self._next = 0.0

    def begin(self) -> None:
        """A process was lost now. Ray may learn of its actors' deaths later than of its own."""
        self._until = time.monotonic() + WATCH_SECONDS

    def step(self) -> None:
        """To be called again and again; asks Ray's head at most once a second, and only after a loss."""
        import ray

        now = time.monotonic()
        if self._next <= now < self._until:
            self._next = now + PAUSE_SECONDS
            with contextlib.suppress(ray.exceptions.RayError):
                remove_orphaned_placement_groups()


def _remove(groups: list[PlacementGroupRecord]) -> None:
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    for group in groups:
        with contextlib.suppress(ray.exceptions.RayError):
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group.id))))
