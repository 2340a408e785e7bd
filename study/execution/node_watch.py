"""Failures weighed by the node on which they happened: the recipe's fault fails anywhere, a node's fault only there.

A trial that failed is tried once more on another node. Where it gets further there, the first node is suspected, and
excluded for the rest of the session once two trials suspect it, or at once where it does not see the study's folder.
On a single node nothing is tried again.

Sessions that start within a day keep away from it, as long as other nodes have room: many start without anybody having
looked at the node, and each would lose time on it again. Suspicions end with their session.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from cluster.resources import Node, TrialResources, count_fitting_trials
from study.config.places import EXCLUDED_VARIABLE
from study.config.run_settings import WorkerSettings
from study.ledger.events import NodeExcluded
from study.workers.draining import list_draining_nodes
from study.workers.failure import Failure, FailureKind

SUSPICIONS = 2  # of different trials exclude a node
EXCLUDED_SECONDS = 24 * 3600.0
# A loss that is not finite comes from the recipe, a lost worker is retried anywhere. A full disk may be the node's own;
# where it is the shared one, nothing can be recorded or written elsewhere either, and the study stops.
WEIGHED = (
    FailureKind.ERROR,
    FailureKind.IMPOSSIBLE,
    FailureKind.OUT_OF_MEMORY,
    FailureKind.STORAGE,
    FailureKind.DISK_FULL,
)


@dataclass(frozen=True)
class WorkerNode:
    """A living node of the cluster: Ray's id of it, its host, its address, what it has in all, and whether Ray drains
    it."""

    id: str
    host: str
    address: str
    total: Node
    is_draining: bool = False


@dataclass(frozen=True)
class _Weighed:
    """A failure that is being weighed: whether its trial gets beyond `epoch` elsewhere."""

    node_id: str
    host: str
    kind: FailureKind
    reason: str
    epoch: int


class NodeWatch:
    """Which nodes each trial avoids, and which ones a session excludes. Ask `take_exclusions` after each note."""

    def __init__(
        self, list_nodes: Callable[[], Sequence[WorkerNode]], workers: WorkerSettings, excluded: Collection[str] = ()
    ) -> None:
        """`excluded` are addresses or host names that are avoided from the start."""
        self.stopped: str | None = None  # why no node is left
        self._list_nodes, self._names = list_nodes, frozenset(excluded)
        self._trial = TrialResources(workers.count, workers.cpus, workers.gpus)
        self._excluded: set[str] = set()
        self._kept: frozenset[str] = frozenset()  # names of nodes that earlier sessions excluded
        self._avoided: dict[int, set[str]] = defaultdict(set)  # nodes on which a trial has failed
        self._weighed: dict[int, list[_Weighed]] = defaultdict(list)
        self._suspicions: dict[str, dict[int, _Weighed]] = defaultdict(dict)  # by node and trial
        self._exclusions: list[NodeExcluded] = []

    def keep_excluded(self, excluded: Iterable[NodeExcluded]) -> None:
        """Keep away from nodes that earlier sessions excluded, while others have room for a trial."""
        self._kept = frozenset(event.node for event in excluded)

    def use_again(self, node: str) -> None:
        """Place trials on a node again that was excluded, given as its exclusion names it."""
        ids = {one.id for one in self._list_nodes() if _name(one) == node}
        self._excluded -= ids
        self._kept -= {node}
        for id_ in ids:
            self._suspicions.pop(id_, None)
        self.stopped = None

    def find_avoided(self, number: int, and_draining: bool = False) -> tuple[str, ...]:
        """The ids of the living nodes that a trial is not placed on.

        Those on which it failed are among them as long as there is room for it on others. With `and_draining` those
        that Ray drains are too: Ray places nothing new there, but a driver that is there could be used again.
        """
        own = self._avoided.get(number, set())
        if not (own or self._excluded or self._names or self._kept or and_draining):
            return ()
        nodes = self._list_nodes()
        excluded = self._find_excluded(nodes)
        wanted = excluded | own if self._fits(nodes, excluded | own) else excluded
        if and_draining:
            wanted = wanted | {node.id for node in nodes if node.is_draining}
        return tuple(sorted(node.id for node in nodes if node.id in wanted))

    def find_exhaustion(self) -> str | None:
        """One line where only excluded nodes have room for a trial; None where others have, or none at all has."""
        if not (self._excluded or self._names):
            return None
        nodes = self._list_nodes()
        excluded = self._find_excluded(nodes)
        if not excluded or self._fits(nodes, excluded) or not self._fits(nodes, set()):
            return None
        names = ", ".join(_name(node) for node in nodes if node.id in excluded)
        return f"only excluded nodes have room for a trial: {names}"

    def tries_elsewhere(self, number: int, failure: Failure, epoch: int) -> bool:
        """Whether a trial that failed after `epoch` is tried again on another node; then it avoids this one."""
        if failure.lacks_room:  # on the nodes that are left; it is not the trial that failed
            return bool(self.find_avoided(number))
        if failure.kind not in WEIGHED or failure.node_id is None:
            return False
        if failure.kind is not FailureKind.STORAGE:  # this node sees the folder
            self._accuse(number, [one for one in self._weighed[number] if one.kind is FailureKind.STORAGE])
        nodes, own = self._list_nodes(), self._avoided[number] | {failure.node_id}
        excluded = self._find_excluded(nodes)
        failed_elsewhere = any(one.kind is not FailureKind.STORAGE for one in self._weighed[number])
        is_known = failure.node_id in excluded or failure.node_id in self._suspicions
        may_try = failure.kind is FailureKind.STORAGE or is_known or not failed_elsewhere
        if not may_try or not self._fits(nodes, excluded | own):
            self._weighed.pop(number)
            return False
        self._avoided[number] = own
        host = failure.node or failure.node_id
        self._weighed[number].append(_Weighed(failure.node_id, host, failure.kind, failure.reason, epoch))
        return True

    def note_progress(self, number: int, epoch: int | None = None) -> None:
        """A trial has reported an epoch or, without one, has come to its end: what it has got beyond is suspected."""
        if weighed := self._weighed.pop(number, None):
            self._weighed[number] = [one for one in weighed if epoch is not None and epoch <= one.epoch]
            self._accuse(number, [one for one in weighed if one not in self._weighed[number]])

    def take_exclusions(self) -> list[NodeExcluded]:
        """The nodes that were excluded since the last call."""
        taken, self._exclusions = self._exclusions, []
        return taken

    def _accuse(self, number: int, failures: Sequence[_Weighed]) -> None:
        for one in failures:
            if one.node_id in self._excluded:
                continue
            suspicions = self._suspicions[one.node_id]
            suspicions[number] = one
            if one.kind is FailureKind.STORAGE:
                self._exclude(one, f"it {one.reason.removeprefix(f'node {one.host} ')}")
            elif len(suspicions) >= SUSPICIONS:
                trials = " and ".join(f"{trial:04d}" for trial in sorted(suspicions))
                reason = f"trials {trials} failed there and got further on other nodes, the last one with {one.reason}"
                self._exclude(one, reason)

    def _exclude(self, failure: _Weighed, reason: str) -> None:
        nodes = self._list_nodes()
        host = next((_name(node) for node in nodes if node.id == failure.node_id), failure.host)
        if self._fits(nodes, self._find_excluded(nodes) | {failure.node_id}):
            self._excluded.add(failure.node_id)
            until = time.time() + EXCLUDED_SECONDS
            self._exclusions.append(NodeExcluded(node=host, node_id=failure.node_id, reason=reason, until=until))
        else:
            self.stopped = f"node {host} is not usable, and no other node has room for a trial: {reason}"

    def _find_excluded(self, nodes: Sequence[WorkerNode]) -> set[str]:
        named = {node.id for node in nodes if self._names & {node.address, node.host}}
        certain = self._excluded | named
        kept = {node.id for node in nodes if _name(node) in self._kept}
        return certain | kept if self._fits(nodes, certain | kept) else certain

    def _fits(self, nodes: Sequence[WorkerNode], avoided: Collection[str]) -> bool:
        """Whether the nodes would have room for a trial without the avoided ones, were nothing else there."""
        left = [node.total for node in nodes if node.id not in avoided]
        return count_fitting_trials(left, self._trial) > 0


def list_worker_nodes() -> list[WorkerNode]:
    """The living nodes of the connected cluster; none where this process is not connected."""
    import ray

    if not ray.is_initialized():
        return []
    draining = list_draining_nodes()
    return [
        WorkerNode(
            node["NodeID"],
            node["NodeManagerHostname"],
            node["NodeManagerAddress"],
            Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)),
            node["NodeID"] in draining,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def read_excluded_nodes() -> frozenset[str]:
    """The addresses and host names that the user excludes."""
    return frozenset(name.strip() for name in os.environ.get(EXCLUDED_VARIABLE, "").split(",") if name.strip())


def _name(node: WorkerNode) -> str:
    return f"{node.host} ({node.address})" if node.address != node.host else node.host
