"""Whether and how often a trial fits on the machines, from numbers alone.

Ray does not report a trial that cannot be placed: it waits without an error. So this is checked before the start, and
before each trial from what is free then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import ClusterError

_TOLERANCE = 1e-6  # in floating point, 3 x 0.1 CPUs are more than 0.3
_RAYS_PRECISION = 1e-3  # Ray counts in steps of 0.0001


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

    def __str__(self) -> str:
        if self.count == 1:
            return f"{_describe_worker(self)} on one node"
        return f"{self.count} workers with {_describe_worker(self)} each"


@dataclass(frozen=True)
class NodeUse:
    """The resources of one machine while studies run."""

    total: Node
    free: Node  # what nobody holds
    own: Node = Node(0.0)  # what this study's trials hold

    @property
    def room(self) -> Node:
        """What new trials may take. Ray's figures are of slightly different times, so it is no more than there is."""
        return Node(
            min(self.free.cpus, self.total.cpus - self.own.cpus), min(self.free.gpus, self.total.gpus - self.own.gpus)
        )

    @property
    def is_used_by_others(self) -> bool:
        others = (
            self.total.cpus - self.free.cpus - self.own.cpus,
            self.total.gpus - self.free.gpus - self.own.gpus,
        )
        return max(others) > _RAYS_PRECISION


@dataclass(frozen=True)
class ClusterUse:
    """The living machines, and how many trials of this study hold the resources of their workers."""

    nodes: tuple[NodeUse, ...]
    placed: int = 0

    def count_trials(self, trial: TrialResources) -> int:
        """How many trials of this study can run at the same time now, those that run included."""
        return self.placed + count_fitting_trials([node.room for node in self.nodes], trial)

    def count_trials_alone(self, trial: TrialResources) -> int:
        """How many could run if the machines were used by nobody else."""
        return count_fitting_trials([node.total for node in self.nodes], trial)

    def describe_shortage(self, trial: TrialResources) -> str:
        """Why no more trials run: what the machines have, or who uses them."""
        if not self.count_trials_alone(trial):
            return f"the cluster has {_describe_totals([node.total for node in self.nodes])}"
        useful = [node for node in self.nodes if _count_fitting_workers(node.total, trial)]
        others = sum(node.is_used_by_others for node in useful)
        if others:
            return f"{others} of {_format_amount(len(useful), 'node')} {'is' if others == 1 else 'are'} used by others"
        return f"{_format_amount(len(useful), 'node')} {'has' if len(useful) == 1 else 'have'} no more room"


def detect_this_machine() -> Node:
    """The CPUs that this process may use (its affinity) and the GPUs that it sees."""
    return Node(cpus=len(os.sched_getaffinity(0)), gpus=_count_visible_gpus())


def count_concurrent_trials(nodes: Sequence[Node], trial: TrialResources, most: int | None = None) -> int:
    """How many trials run at the same time: as many as fit, but no more than `most`; a ClusterError where none fits.

    The trial drivers are not counted: they take a share of the head node's own resource and no CPU.
    """
    _check_totals(nodes, trial)
    fitting = count_fitting_trials(nodes, trial)
    if fitting == 0:
        largest = _find_largest(nodes)
        raise ClusterError(
            f"workers.count {trial.count} with {_describe_worker(trial)} each do not fit on the nodes one by one "
            f"(the largest has {_format_amount(largest.cpus, 'CPU')} and {_format_amount(largest.gpus, 'GPU')}); "
            "lower workers.cpus or workers.gpus"
        )
    return fitting if most is None else min(fitting, most)


def count_fitting_trials(nodes: Sequence[Node], trial: TrialResources) -> int:
    """How many trials fit on the nodes together; a worker never spans two of them."""
    return sum(_count_fitting_workers(node, trial) for node in nodes) // trial.count


def _check_totals(nodes: Sequence[Node], trial: TrialResources) -> None:
    """Raise a ClusterError where all nodes together have too few CPUs or GPUs for one trial."""
    for name, per_worker, available in (
        ("cpus", trial.cpus, sum(node.cpus for node in nodes)),
        ("gpus", trial.gpus, sum(node.gpus for node in nodes)),
    ):
        if trial.count * per_worker > available + _TOLERANCE:
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
    return max(0, int(min(fitting) + _TOLERANCE)) if fitting else trial.count


def _count_visible_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        return sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev"))
    except OSError:
        return 0


def _find_largest(nodes: Sequence[Node]) -> Node:
    return max(nodes, key=lambda node: (node.gpus, node.cpus))


def _describe_totals(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "no node"
    largest = _find_largest(nodes)
    amounts = f"{_format_amount(largest.cpus, 'CPU')} and {_format_amount(largest.gpus, 'GPU')}"
    if len(nodes) == 1:
        return f"1 node with {amounts}"
    return f"{len(nodes)} nodes, the largest with {amounts}"


def _describe_nodes(nodes: Sequence[Node]) -> str:
    return "this machine has" if len(nodes) == 1 else f"the cluster of {len(nodes)} nodes has"


def _describe_worker(trial: TrialResources) -> str:
    cpus = _format_amount(trial.cpus, "CPU")
    return f"{cpus} and {_format_amount(trial.gpus, 'GPU')}" if trial.gpus else cpus


def _format_amount(number: float, unit: str) -> str:
    return f"{number:g} {unit}" + ("" if number == 1 else "s")
