"""Failures weighed by the node on which they happened: the recipe's fault fails anywhere, a node's fault only there.

A trial that failed is tried once more on another node, when one has room. Where it gets further there, the first node
is suspected, and excluded for a day once two trials suspect it, or at once where it does not see the study's folder.
On a single node nothing is tried again.

Sessions that start within that day keep away from it, as long as other nodes have room: many start without anybody
having looked at the node, and each would lose time on it again. Suspicions end with their session, and after a day:
two faults that are weeks apart have nothing to do with each other, and would exclude node after node.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cluster.resources import Node, TrialResources, count_fitting_trials
from study.config.places import EXCLUDED_VARIABLE
from study.config.run_settings import WorkerSettings
from study.ledger.events import NodeExcluded
from study.workers.draining import list_draining_nodes
from study.workers.failure import Failure, FailureKind

SUSPICIONS = 2  # of different trials exclude a node
EXCLUDED_SECONDS = 24 * 3600.0  # and how long a suspicion lasts, or a trial keeps away from where it failed
# A trial that has waited so long for other nodes goes first; after one that found no room there, the next much later.
TURN_SECONDS, NEXT_TURN_SECONDS = 60.0, 600.0
# A loss that is not finite comes from the recipe, a lost worker is retried anywhere. A full disk may be the node's own;
# where it is the shared one, nothing can be recorded or written elsewhere either, and the study stops.
WEIGHED = (
    FailureKind.ERROR,
    FailureKind.IMPOSSIBLE,
    FailureKind.OUT_OF_MEMORY,
    FailureKind.STORAGE,
    FailureKind.DISK_FULL,
)
_Key = TypeVar("_Key")


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
        self,
        list_nodes: Callable[[], Sequence[WorkerNode]],
        workers: WorkerSettings,
        excluded: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`excluded` are addresses or host names that are avoided from the start. `clock` gives seconds."""
        self.stopped: str | None = None  # why no node is left
        self._list_nodes, self._names, self._clock = list_nodes, frozenset(excluded), clock
        self._trial = TrialResources(workers.count, workers.cpus, workers.gpus)
        # When each one ends, by the clock: nodes; names of nodes that earlier sessions excluded; nodes on which a trial
        # has failed; suspicions by node and trial.
        self._excluded: dict[str, float] = {}
        self._kept: dict[str, float] = {}
        self._avoided: dict[int, dict[str, float]] = defaultdict(dict)
        self._suspicions: dict[str, dict[int, float]] = defaultdict(dict)
        self._weighed: dict[int, list[_Weighed]] = defaultdict(list)
        self._confined: set[int] = set()  # trials that avoided nodes when they were placed last
        self._exclusions: list[NodeExcluded] = []
        self._find_room: Callable[[Collection[str]], bool] = lambda avoided: True
        self._waits: dict[int, float] = {}  # since when a trial waits for room on other nodes
        self._next_turn = -math.inf

    def keep_excluded(self, excluded: Iterable[NodeExcluded]) -> None:
        """Keep away from nodes that earlier sessions excluded, while others have room for a trial."""
        now, at = self._clock(), time.time()
        self._kept = {event.node: now + (event.until or at) - at for event in excluded}

    def watch_room(self, find_room: Callable[[Collection[str]], bool]) -> None:
        """`find_room` says from now on whether nodes have room for a trial as they are used, but for some with these
        ids."""
        self._find_room = find_room

    def use_again(self, node: str) -> None:
        """Place trials on a node again that was excluded, given as its exclusion names it."""
        ids = {one.id for one in self._list_nodes() if _name(one) == node}
        self._kept.pop(node, None)
        for id_ in ids:
            self._excluded.pop(id_, None)
            self._suspicions.pop(id_, None)
        for number, failures in self._weighed.items():
            self._weighed[number] = [one for one in failures if one.node_id not in ids]
        self.stopped = None

    def find_avoided(self, number: int, and_draining: bool = False) -> tuple[str, ...]:
        """The ids of the living nodes that a trial is not placed on.

        Those on which it failed are among them as long as others could hold it. With `and_draining`, for a trial that
        is placed now, those that Ray drains are too: Ray places nothing new there, but a driver that is there could be
        used again.
        """
        own = self._find_own(number)
        if not (own or self._excluded or self._names or self._kept or and_draining):
            return ()
        nodes = self._list_nodes()
        excluded = self._find_excluded(nodes)
        wanted = excluded | own if self._fits(nodes, excluded | own) else excluded
        if and_draining:
            wanted = wanted | {node.id for node in nodes if node.is_draining}
        avoided = tuple(sorted(node.id for node in nodes if node.id in wanted))
        if and_draining and avoided:
            self._confined.add(number)
        elif and_draining:
            self._confined.discard(number)
        if and_draining and self._waits.pop(number, None) is not None:
            self._next_turn = self._clock() + TURN_SECONDS
        return avoided

    def has_room(self, number: int) -> bool:
        """Whether a trial of one worker would find its place now, or waits like any other one.

        False where it has failed on nodes, and others or this study use all that is left for it: once started it would
        wait there, hold nothing, and keep those trials from starting that could run where it failed. But new trials
        take each place that comes free elsewhere, so that after a while it has its turn. Workers that are several give
        up by themselves.
        """
        if self._trial.count > 1 or not self._find_own(number):
            return True
        avoided = self.find_avoided(number)
        # What all trials keep away from keeps no other one's place free.
        alone = self._find_own(number) & set(avoided) - self._find_excluded(self._list_nodes())
        if not alone or self._find_room(avoided):
            self._waits.pop(number, None)
            return True
        now = self._clock()
        return now - self._waits.setdefault(number, now) >= TURN_SECONDS and now >= self._next_turn

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
            self._next_turn = self._clock() + NEXT_TURN_SECONDS
            return number in self._confined or bool(self.find_avoided(number))
        if failure.kind not in WEIGHED or failure.node_id is None:
            return False
        if failure.kind is not FailureKind.STORAGE:  # this node sees the folder
            self._accuse(number, [one for one in self._weighed[number] if one.kind is FailureKind.STORAGE])
        nodes, own = self._list_nodes(), self._avoided[number] | {failure.node_id: self._clock() + EXCLUDED_SECONDS}
        excluded = self._find_excluded(nodes)
        failed_elsewhere = any(one.kind is not FailureKind.STORAGE for one in self._weighed[number])
        is_known = failure.node_id in excluded or failure.node_id in self._suspicions
        may_try = failure.kind is FailureKind.STORAGE or is_known or not failed_elsewhere
        if not may_try or not self._fits(nodes, excluded | own.keys()):
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
        self._expire()
        for one in failures:
            if one.node_id in self._excluded:
                continue
            suspicions = self._suspicions[one.node_id]
            suspicions[number] = self._clock() + EXCLUDED_SECONDS
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
            self._excluded[failure.node_id] = self._clock() + EXCLUDED_SECONDS
            until = time.time() + EXCLUDED_SECONDS
            self._exclusions.append(NodeExcluded(node=host, node_id=failure.node_id, reason=reason, until=until))
        else:
            self.stopped = f"node {host} is not usable, and no other node has room for a trial: {reason}"

    def _find_excluded(self, nodes: Sequence[WorkerNode]) -> set[str]:
        self._expire()
        named = {node.id for node in nodes if self._names & {node.address, node.host}}
        certain = self._excluded.keys() | named
        kept = {node.id for node in nodes if _name(node) in self._kept}
        return certain | kept if self._fits(nodes, certain | kept) else certain

    def _find_own(self, number: int) -> set[str]:
        """The nodes that this trial alone avoids. It may be placed again on one where it failed a day ago: then its
        progress says nothing of that one."""
        own = self._avoided.get(number)
        if own is None:
            return set()
        self._avoided[number] = left = self._drop_ended(own)
        if gone := own.keys() - left.keys():
            self._weighed[number] = [one for one in self._weighed[number] if one.node_id not in gone]
        return set(left)

    def _expire(self) -> None:
        """Forget the exclusions and suspicions that have ended."""
        self._excluded, self._kept = self._drop_ended(self._excluded), self._drop_ended(self._kept)
        for node, suspicions in list(self._suspicions.items()):
            self._suspicions[node] = self._drop_ended(suspicions)
            if not self._suspicions[node]:
                del self._suspicions[node]

    def _drop_ended(self, ends: dict[_Key, float]) -> dict[_Key, float]:
        now = self._clock()
        return {key: end for key, end in ends.items() if end > now}

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
