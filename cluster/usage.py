"""What is free on each machine of the connected cluster, what this study holds, and asking for more machines.

Other tenants are seen by what they leave free. A trial holds its resources in a placement group: Tune makes that of a
single worker in the study's own process, Ray Train that of several in an actor.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.placement_groups import remove_orphaned_placement_groups
from cluster.resources import ClusterUse, Node, NodeUse, TrialResources, count_fitting_trials

_PRECISION = 1e-3  # Ray counts in steps of 0.0001
DOUBT_SECONDS = 5.0  # for which a node that came back is used by others
LONGEST_DOUBT_SECONDS = 300.0  # between two requests to a node that really is used by others


class ClusterWatch:
    """The use of the connected cluster, for trials that need `trial` each.

    `ask` makes placement groups of a trial's shape, which wait in the place of trials that have no room: Ray's
    autoscalers add machines for them, and no trial is started that could only wait. Ray removes them with the study's
    process.
    """

    def __init__(
        self,
        trial: TrialResources,
        find_excluded: Callable[[], Collection[str]] = tuple,
        select_others: Callable[[Collection[str]], dict[str, str]] = lambda excluded: {},
    ) -> None:
        """`find_excluded` gives Ray's ids of the nodes that no trial is placed on, `select_others` the label selector
        for all others."""
        self._trial, self._find_excluded, self._select_others = trial, find_excluded, select_others
        self._requests: dict[str, Any] = {}  # id -> placement group
        self._selector: dict[str, str] = {}  # of the requests
        self._returned = ReturnWatch()
        self._latest = ClusterUse(())
        self._nodes: dict[str, NodeUse] = {}  # all that live, at the last look
        self._places: list[str] = []  # the node of each placed trial's first worker then

    def look(self) -> ClusterUse:
        """The use now; that of the last look where Ray's head does not answer.

        Requests that were placed meanwhile are removed, and what they held counts as free.
        """
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            self._latest = self._read_use()
        return self._latest

    def _read_use(self) -> ClusterUse:
        import ray
        from ray._private.state import state

        excluded = set(self._find_excluded())
        groups = _list_groups_of_this_job()  # first: one that is placed meanwhile then lacks, and does not count twice
        free = {node: _to_node(amounts) for node, amounts in state.available_resources_per_node().items()}
        draining = state.get_draining_nodes()  # Ray places nothing new there
        own: dict[str, Node] = {}
        places: list[str] = []
        placed = 0
        for group in groups:
            if group.id in self._requests:
                if group.is_placed:
                    _add(free, group.bundles)
                    self._remove([group.id])
            elif group.is_placed and not group.creator_is_dead and self._is_of_a_trial(group):
                places.append(group.bundles[0][0])
                if not any(node in excluded for node, _ in group.bundles):
                    _add(own, group.bundles)
                    placed += 1
        if any(group.creator_is_dead for group in groups):
            remove_orphaned_placement_groups()
        all_nodes = ray.nodes()
        nodes = {
            node["NodeID"]: NodeUse(
                _to_node(node["Resources"]),
                free.get(node["NodeID"], Node(0.0)) if node["NodeID"] not in draining else Node(0.0),
                own.get(node["NodeID"], Node(0.0)),
            )
            for node in all_nodes
            if node["Alive"]
        }
        self._nodes, self._places = nodes, places
        self._returned.step(all_nodes, {node for node, use in nodes.items() if use.is_used_by_others})
        usable = ClusterUse(tuple(use for node, use in nodes.items() if node not in excluded), placed)
        # Where the excluded nodes are the only ones that could hold a trial, waiting helps nobody: the study decides.
        return usable if usable.count_trials_alone(self._trial) else ClusterUse(tuple(nodes.values()), placed)

    def has_room_beside(self, avoided: Collection[str], running: int) -> bool:
        """Whether a trial of one worker had room at the last look, on other nodes than those with these ids, beside
        `running` trials.

        Of these, some may not be placed yet, and take it. Of the drivers that wait for the next trial, Tune ends those
        that one with other nodes has no use for, so that their place counts where one of them surely is there.
        """
        free = count_fitting_trials([use.room for node, use in self._nodes.items() if node not in avoided], self._trial)
        idle = sum(node not in avoided for node in self._places) - running
        return free + max(0, idle) > max(0, running - len(self._places))

    def ask(self, count: int, avoided: Collection[str] = ()) -> None:
        """Have as many requests wait as `count`, on none of the nodes with these ids."""
        from ray.util import placement_group

        amounts = {"CPU": self._trial.cpus} | ({"GPU": self._trial.gpus} if self._trial.gpus else {})
        selector = self._select_others({*self._find_excluded(), *avoided})
        if selector != self._selector:
            self.withdraw()
            self._selector = selector
        while len(self._requests) < count:
            group = placement_group(
                [dict(amounts) for _ in range(self._trial.count)],
                bundle_label_selector=[dict(selector) for _ in range(self._trial.count)] if selector else None,
            )
            self._requests[group.id.hex()] = group
        self._remove(list(self._requests)[count:])

    def withdraw(self) -> None:
        """Ask for nothing more."""
        self._remove(list(self._requests))

    def _remove(self, ids: Iterable[str]) -> None:
        import ray

        for number in ids:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.util.remove_placement_group(self._requests.pop(number))

    def _is_of_a_trial(self, group: _Group) -> bool:
        """Whether it holds a trial's workers; their driver has a group of its own."""
        trial = self._trial
        return (
            group.is_made_by_actor == (trial.count > 1)
            and len(group.bundles) == trial.count
            and all(
                abs(amounts.cpus - trial.cpus) < _PRECISION and abs(amounts.gpus - trial.gpus) < _PRECISION
                for _, amounts in group.bundles
            )
        )


class ReturnWatch:
    """Has nodes that came back report what is free on them, where Ray's head may count it wrongly.

    A node whose link was cut comes back at the address of the dead one, and the head may ask it for a trial's resources
    over a connection of the dead one. The request fails when that is given up, but the head goes on counting the
    resources as taken until something changes on the node, and no trial would ever start there. A task that takes a
    share of the node's own resource is such a change.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, tuple[float, float]] = {}  # node's id -> when it is to report, and the pause after that

    def step(self, nodes: Sequence[Mapping[str, Any]], used: Collection[str]) -> list[str]:
        """The ids of the nodes that are asked now. `nodes` as Ray lists them; others seem to use those in `used`."""
        dead = {node["NodeManagerAddress"] for node in nodes if not node["Alive"]}
        doubtful = {
            node["NodeID"]: node["NodeManagerAddress"]
            for node in nodes
            if node["Alive"] and node["NodeID"] in used and node["NodeManagerAddress"] in dead
        }
        now, asked = self._clock(), []
        self._due = {node: self._due.get(node, (now + DOUBT_SECONDS, 2 * DOUBT_SECONDS)) for node in sorted(doubtful)}
        for node, (due, pause) in self._due.items():
            if now >= due:
                self._due[node] = (now + pause, min(2 * pause, LONGEST_DOUBT_SECONDS))
                ask_for_report(node, doubtful[node])
                asked.append(node)
        return asked


def ask_for_report(node: str, address: str) -> Any:
    """Have the node with this id and address report what is free on it; Ray's reference of the task that does so."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node, soft=False)
    amounts = {f"node:{address}": 0.001}  # each node has 1 of it
    task = ray.remote(_do_nothing).options(num_cpus=0, resources=amounts, scheduling_strategy=place, max_retries=0)
    return task.remote()


def _do_nothing() -> None:
    """What changes on the node is that it runs."""


@dataclass(frozen=True)
class _Group:
    """A placement group of this job. Ids are hexadecimal."""

    id: str
    is_placed: bool
    is_made_by_actor: bool
    creator_is_dead: bool
    bundles: tuple[tuple[str, Node], ...]  # the machine of each, and what it holds there


def _list_groups_of_this_job() -> list[_Group]:
    import ray
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    job = ray.get_runtime_context().get_job_id()
    lines = state._connect_and_get_accessor().get_placement_group_table()
    groups = []
    for group in map(PlacementGroupTableData.FromString, lines):
        if group.creator_job_id.hex() != job or group.state == PlacementGroupTableData.REMOVED:
            continue
        is_made_by_actor = bool(group.creator_actor_id.strip(b"\xff"))
        groups.append(
            _Group(
                group.placement_group_id.hex(),
                group.state == PlacementGroupTableData.CREATED,
                is_made_by_actor,
                is_made_by_actor and group.creator_actor_dead,  # else it says of no actor that it is dead
                tuple((bundle.node_id.hex(), _to_node(bundle.unit_resources)) for bundle in group.bundles),
            )
        )
    return groups


def _to_node(amounts: Mapping[str, float]) -> Node:
    return Node(amounts.get("CPU", 0.0), amounts.get("GPU", 0.0))


def _add(nodes: dict[str, Node], bundles: Iterable[tuple[str, Node]]) -> None:
    for name, amounts in bundles:
        before = nodes.get(name, Node(0.0))
        nodes[name] = Node(before.cpus + amounts.cpus, before.gpus + amounts.gpus)
