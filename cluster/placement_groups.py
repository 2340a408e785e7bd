"""Placement groups, which Ray keeps after the driver that made them was killed."""

from __future__ import annotations

import contextlib


def remove_placement_group(number: str) -> None:
    """Release the resources of the placement group with this hexadecimal id; no error where it is gone already.

    A placement group that an actor made stays until the whole job ends, even when the actor is dead.
    """
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    with contextlib.suppress(ray.exceptions.RayError, ValueError):
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(number))))
