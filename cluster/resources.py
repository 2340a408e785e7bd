"""Whether the trials fit on the machines, checked from numbers before anything starts.

Ray does not report a trial that cannot be placed: it waits without an error. So this is checked first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import ClusterError

TOLERANCE = 1e-6  # in floating point, 3 x 0.1 CPUs are more than 0.3


@dataclass(frozen=True)
class Node:
    """The resources of one machine of the cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class TrialResources:
    """What one trial needs: `count` workers, with so many CPUs and GPUs per worker."""

    count: int
    cpus: float
    gpus: float = 0.0


def detect_this_machine() -> Node:
    """The CPUs that this process may use (its affinity) and the GPUs that it sees."""
    return Node(cpus=len(os.sched_getaffinity(0)), gpus=_count_visible_gpus())


def count_concurrent_trials(nodes: Sequence[Node], trial: TrialResources, requested: int | None = None) -> int:
    """How many trials run at the same time: as many as fit, or `requested` if they fit; else a ClusterError.

    The trial drivers are not counted: they take a share of the head node's own resource and no CPU.
    """
    _check_totals(nodes, trial)
    fitting = sum(_count_fitting_workers(node, trial) for node in nodes) // trial.count
    if fitting == 0:
        largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
        raise ClusterError(
            f"workers.count {trial.count} with {_describe_worker(trial)} each do not fit on the nodes one by one "
            f"(the largest has {_format_amount(largest.cpus, 'CPU')} and {_format_amount(largest.gpus, 'GPU')}); "
            "lower workers.cpus or workers.gpus"
        )
    if requested is not None and requested > fitting:
        raise ClusterError(
            f"workers.concurrent_trials is {requested}, but {_describe_nodes(nodes)} room for "
            f"{_format_amount(fitting, 'trial')} of {trial.count} workers with {_describe_worker(trial)} each; "
            f"give {fitting} or less, or null for as many as fit"
        )
    return requested or fitting


def _check_totals(nodes: Sequence[Node], trial: TrialResources) -> None:
    """Raise a ClusterError where all nodes together have too few CPUs or GPUs for one trial."""
    for name, per_worker, available in (
        ("cpus", trial.cpus, sum(node.cpus for node in nodes)),
        ("gpus", trial.gpus, sum(node.gpus for node in nodes)),
    ):
        if trial.count * per_worker > available + TOLERANCE:
            unit = name.upper().rstrip("S")
            raise ClusterError(
                f"workers.count {trial.count} x workers.{name} {per_worker:g} needs "
                f"{_format_amount(trial.count * per_worker, unit)}, "
                f"{_describe_nodes(nodes)} {_format_amount(available, unit)}; "
                f"lower workers.count or workers.{name}"
            )


def _count_fitting_workers(node: Node, trial: TrialResources) -> int:
    pairs = ((node.cpus, trial.cpus), (node.gpus, trial.gpus))
    fitting = [available / per_worker for available, per_worker in pairs if per_worker > 0]
    return int(min(fitting) + TOLERANCE) if fitting else trial.count


def _count_visible_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        return sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev"))
    except OSError:
        return 0


def _describe_nodes(nodes: Sequence[Node]) -> str:
    return "this machine has" if len(nodes) == 1 else f"the cluster of {len(nodes)} nodes has"


def _describe_worker(trial: TrialResources) -> str:
    cpus = _format_amount(trial.cpus, "CPU")
    return f"{cpus} and {_format_amount(trial.gpus, 'GPU')}" if trial.gpus else cpus


def _format_amount(number: float, unit: str) -> str:
    return f"{number:g} {unit}" + ("" if number == 1 else "s")
