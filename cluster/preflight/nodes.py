"""Looks at all nodes of the connected cluster at the same time, from a process on each."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import format_error
from cluster.preflight.facts import Facts, Node, Request
from cluster.preflight.node import look
from cluster.preflight.storage import Probe

CLOCK_READINGS = 5  # the one with the shortest way counts
STEP_SECONDS = 5.0  # for a process that is up to say what it does
MOST_CHARACTERS = 300  # of an error of Ray that is shown


@dataclass(frozen=True)
class RayNode:
    """A living node, as Ray lists it."""

    id: str
    address: str
    host: str
    gpus: float
    is_head: bool


class Observer:
    """A process on a node; another of its threads says what it does while one of them looks."""

    def __init__(self) -> None:
        self._step = "its start"

    def look(self, request: Request, node_id: str, ray_gpus: float) -> Facts:
        """The node's facts."""
        return look(request, node_id, ray_gpus, self._begin)

    def read_clock(self) -> float:
        """Seconds since 1970 by the node's clock."""
        return time.time()

    def read_step(self) -> str:
        """What is looked at now."""
        return self._step

    def _begin(self, step: str) -> None:
        self._step = step


def list_nodes() -> list[RayNode]:
    """The living nodes, the head first, the others by their addresses."""
    here = ray.get_runtime_context().get_node_id()
    living = [
        RayNode(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["NodeManagerHostname"],
            node["Resources"].get("GPU", 0.0),
            node["NodeID"] == here,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(living, key=lambda node: (not node.is_head, sort_key(node.address)))


def sort_key(address: str) -> tuple[object, ...]:
    """Orders addresses by their numbers: 10.0.0.9 before 10.0.0.10."""
    parts = address.split(".")
    return (0, *map(int, parts)) if all(part.isdigit() for part in parts) else (1, address)


def start_on_node(cls: type, node_id: str, *arguments: object, threads: int = 1) -> Any:
    """An actor on that node and no other, which takes none of its CPUs and GPUs."""
    place = NodeAffinitySchedulingStrategy(node_id, soft=False)
    actor = ray.remote(cls).options(num_cpus=0, max_concurrency=threads, scheduling_strategy=place)
    return actor.remote(*arguments)


def look_at_nodes(nodes: Sequence[RayNode], request: Request, probe: Probe | None, seconds: float) -> list[Node]:
    """What each node is like; one that does not answer within `seconds` says at least what it was doing."""
    observers = {node.id: start_on_node(Observer, node.id, threads=2) for node in nodes}
    try:
        looks = {node.id: observers[node.id].look.remote(request, node.id, node.gpus) for node in nodes}
        ready = set(ray.wait(list(looks.values()), num_returns=len(looks), timeout=seconds)[0])
        steps = {id: observers[id].read_step.remote() for id, look_ in looks.items() if look_ not in ready}
        if steps:
            ray.wait(list(steps.values()), num_returns=len(steps), timeout=STEP_SECONDS)
        return [
            _describe_silence(node, steps[node.id], seconds)
            if node.id in steps
            else _read_look(node, looks[node.id], observers[node.id], probe)
            for node in nodes
        ]
    finally:
        for observer in observers.values():
            ray.kill(observer)


def explain(error: RayError) -> str:
    """What a call in another process raised, in one line."""
    if isinstance(error, RayTaskError):
        return format_error(error.cause)
    said = " ".join(str(error).split())
    found = re.search(r"actor (?:died|is dead) because ([^.]+)\.", said)
    return found[1] if found else said[:MOST_CHARACTERS].rstrip(".")


def _read_look(node: RayNode, look_: Any, observer: Any, probe: Probe | None) -> Node:
    try:
        facts: Facts = ray.get(look_)
        clock, clock_error = measure_clock(lambda: ray.get(observer.read_clock.remote(), timeout=STEP_SECONDS))
    except RayError as error:
        return Node(node.address, node.host, node.is_head, silence=f"its process ended ({explain(error)})")
    if facts.storage is not None and probe is not None:
        facts = replace(facts, storage=probe.read_back(node.id, facts.storage))
    return Node(node.address, node.host, node.is_head, replace(facts, clock=clock, clock_error=clock_error))


def _describe_silence(node: RayNode, step: Any, seconds: float) -> Node:
    try:
        doing = f"while it looked at {ray.get(step, timeout=0)}"
    except GetTimeoutError:
        doing = "since its process does not start, or hangs"
    except RayError as error:
        doing = f"since its process ended ({explain(error)})"
    return Node(node.address, node.host, node.is_head, silence=f"no answer within {seconds:g} s, {doing}")


def measure_clock(read: Any) -> tuple[float, float]:
    """Seconds that the clock which `read` reads is ahead of this one's, and a bound of the error."""
    best = (0.0, float("inf"))
    for _ in range(CLOCK_READINGS):
        sent, began = time.time(), time.monotonic()
        there = read()
        way = time.monotonic() - began
        if way / 2 < best[1]:
            best = (there - (sent + way / 2), way / 2)
    return best


def list_missing(expected: Mapping[str, str], nodes: Sequence[RayNode]) -> list[Node]:
    """The machines that should be in the cluster, and are not: `expected` has their names and addresses."""
    known = {node.address for node in nodes}
    return [
        Node(address, name, silence="no Ray runs there, or it has not joined the head")
        for name, address in expected.items()
        if address not in known and name not in known
    ]
