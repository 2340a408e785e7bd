"""Admission: whether the trials fit where they are to run, decided from numbers before anything starts.

Trials that cannot be placed do not fail in Ray, they wait in silence; so this is asked first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import ClusterError

HAIR = 1e-6  # three times a tenth of a CPU is a hair more than 0.3


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has in all."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Need:
    """What one trial asks for: `count` workers, each with so much."""

    count: int
    cpus: float
    gpus: float = 0.0


def this_machine() -> Node:
    """The CPUs this process may use (affinity heeded) and the GPUs that it may see."""
    return Node(cpus=len(os.sched_getaffinity(0)), gpus=_visible_gpus())


def concurrency(nodes: Sequence[Node], need: Need, asked: int | None = None) -> int:
    """How many trials run at once: as many as fit, or `asked` if they fit; else a ClusterError.

    The trial drivers are not counted: they take a share of the head node's own resource and no CPU.
    """
    where = "this machine has" if len(nodes) == 1 else f"the cluster of {len(nodes)} nodes has"
    for name, each, have in (
        ("cpus", need.cpus, sum(node.cpus for node in nodes)),
        ("gpus", need.gpus, sum(node.gpus for node in nodes)),
    ):
        if need.count * each > have + HAIR:
            unit = name.upper().rstrip("S")
            raise ClusterError(
                f"workers.count {need.count} x workers.{name} {each:g} needs {_amount(need.count * each, unit)}, "
                f"{where} {_amount(have, unit)}; lower workers.count or workers.{name}"
            )
    fits = sum(_workers_on(node, need) for node in nodes) // need.count
    if fits == 0:
        largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
        raise ClusterError(
            f"workers.count {need.count} with {_demand(need)} each do not fit on the nodes one by one "
            f"(the largest has {_amount(largest.cpus, 'CPU')} and {_amount(largest.gpus, 'GPU')}); "
            "lower workers.cpus or workers.gpus"
        )
    if asked is not None and asked > fits:
        raise ClusterError(
            f"workers.concurrent_trials is {asked}, but {where} room for {_amount(fits, 'trial')} of {need.count} "
            f"workers with {_demand(need)} each; give {fits} or less, or null for as many as fit"
        )
    return asked or fits


def _workers_on(node: Node, need: Need) -> int:
    rooms = [have / each for have, each in ((node.cpus, need.cpus), (node.gpus, need.gpus)) if each > 0]
    return int(min(rooms) + HAIR) if rooms else need.count


def _visible_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        return sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev"))
    except OSError:
        return 0


def _demand(need: Need) -> str:
    demand = _amount(need.cpus, "CPU")
    return f"{demand} and {_amount(need.gpus, 'GPU')}" if need.gpus else demand


def _amount(number: float, unit: str) -> str:
    return f"{number:g} {unit}" + ("" if number == 1 else "s")
