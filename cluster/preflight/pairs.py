"""An all-reduce on pairs of neighbouring nodes, as workers of a trial compute it: who reaches whom, and how fast."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError

from cluster.errors import ClusterError, format_error
from cluster.interfaces import GLOO, choose_gloo_interface, find_interface
from cluster.preflight.facts import Pair
from cluster.preflight.node import list_system_ports
from cluster.preflight.nodes import RayNode, explain, start_on_node
from cluster.worker_ports import listen_on_worker_port, read_worker_ports

MIB = 1024**2
REDUCED_BYTES = 16 * MIB  # the gradient of a small model; an eighth of a second at a gigabit
ROUNDS = 3  # after one to warm up; the fastest counts
START_SECONDS = 120.0  # for a process with torch to be up
REACH_SECONDS = 10.0  # for a connection: two repeated packets may be lost
JOIN_SECONDS = 60.0  # for the group to form, and for each of its operations

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where a member listens, and through what."""

    port: int
    interface: str | None
    worker_ports: str | None
    system_ports: str | None


class Member:
    """A process on one of the two nodes."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._server: socket.socket | None = None

    def listen(self) -> Endpoint:
        """Listen at this node's address, on one of the ports for workers."""
        import torch.distributed  # noqa: F401, so that the other one does not wait for the import later

        if self._server is not None:
            self._server.close()
        self._server = listen_on_worker_port(self._address)
        ports = read_worker_ports()
        return Endpoint(
            self._server.getsockname()[1],
            os.environ.get(GLOO) or find_interface(self._address),
            f"{ports.start}-{ports.stop - 1}" if ports else None,
            list_system_ports(),
        )

    def reach(self, address: str, port: int) -> str | None:
        """Why the other one is not reached, or None where it is."""
        try:
            socket.create_connection((address, port), REACH_SECONDS).close()
        except OSError as error:
            return f"{self._address} does not reach port {port} of {address} ({error.strerror or format_error(error)})"
        return None

    def reduce(self, rank: int, address: str, port: int, backend: str) -> float:
        """Form a group of two whose first member listens there; the seconds of an all-reduce."""
        import torch
        import torch.distributed as dist

        patience = timedelta(seconds=JOIN_SECONDS)
        options: dict[str, Any] = {"is_master": False}
        if rank == 0:
            assert self._server is not None
            # The store takes the socket over, so that nobody else can take the port in between.
            options = {"is_master": True, "wait_for_workers": False, "master_listen_fd": self._server.detach()}
        store = dist.TCPStore(address, port, 2, timeout=patience, **options)
        choose_gloo_interface(self._address)
        device = torch.device("cuda:0" if backend == "nccl" else "cpu")
        dist.init_process_group(backend, store=store, rank=rank, world_size=2, timeout=patience)
        try:
            return min([_measure(torch, dist, device) for _ in range(1 + ROUNDS)][1:])
        finally:
            dist.destroy_process_group()


def make_ring(nodes: Sequence[T]) -> list[list[tuple[T, T]]]:
    """Each node with the next and the last with the first, in rounds in which no node occurs twice."""
    pairs = list(zip(nodes, [*nodes[1:], *nodes[:1]], strict=True))
    if len(nodes) < 2:
        return []
    if len(nodes) == 2:
        return [pairs[:1]]
    closing = len(nodes) % 2
    rounds = [pairs[0 : len(pairs) - closing : 2], pairs[1::2], pairs[len(pairs) - closing :]]
    return [pairs_ for pairs_ in rounds if pairs_]


def measure_pairs(nodes: Sequence[RayNode], with_gpus: set[str]) -> list[Pair]:
    """An all-reduce on each pair of the ring: nccl where both addresses are in `with_gpus`, else gloo."""
    measured: list[Pair] = []
    for round_ in make_ring(nodes):
        with ThreadPoolExecutor(len(round_)) as pool:
            measured += pool.map(lambda pair: measure_pair(pair[0], pair[1], with_gpus), round_)
    order = {node.address: number for number, node in enumerate(nodes)}
    return sorted(measured, key=lambda pair: order[pair.addresses[0]])


def measure_pair(one: RayNode, other: RayNode, with_gpus: set[str]) -> Pair:
    """An all-reduce on two nodes, from a new process on each."""
    backend = "nccl" if {one.address, other.address} <= with_gpus else "gloo"
    pair = Pair((one.address, other.address), backend=backend)
    members = [start_on_node(Member, node.id, node.address) for node in (one, other)]
    try:
        ends = _get([member.listen.remote() for member in members], START_SECONDS)
        pair = replace(
            pair,
            interfaces=(ends[0].interface, ends[1].interface),
            worker_ports=ends[0].worker_ports,
            system_ports=ends[0].system_ports,
        )
        if (fault := _find_unreached(pair, members, ends)) is not None:
            return replace(pair, fault=fault)
        return _reduce(pair, members)
    except RayError as error:
        return replace(pair, fault=f"they cannot compute an all-reduce together ({explain(error)})")
    finally:
        for member in members:
            ray.kill(member)


def _find_unreached(pair: Pair, members: Sequence[Any], ends: Sequence[Endpoint]) -> str | None:
    """Who does not reach whom; None where each reaches the other."""
    there = zip(members, reversed(pair.addresses), reversed(ends), strict=True)
    reached = _get([member.reach.remote(address, end.port) for member, address, end in there], 3 * REACH_SECONDS)
    return "; ".join(filter(None, reached)) or None


def _reduce(pair: Pair, members: Sequence[Any]) -> Pair:
    # Another socket than the one that the other member has tried.
    port = _get([members[0].listen.remote()], START_SECONDS)[0].port
    calls = [member.reduce.remote(rank, pair.addresses[0], port, pair.backend) for rank, member in enumerate(members)]
    seconds = max(_get(calls, 2 * JOIN_SECONDS))
    # Of two members each sends all its numbers and receives all of the other's.
    return replace(pair, seconds=seconds, bandwidth=REDUCED_BYTES / seconds / 1e6)


def _get(calls: Sequence[Any], seconds: float) -> Any:
    """What the calls return, within so many seconds; the first error where one of them ends with one."""
    waiting, deadline = list(calls), time.monotonic() + seconds
    while waiting:
        done, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            raise GetTimeoutError(f"no answer within {seconds:g} s")
        ray.get(done)  # raises what a call raised, while others may wait for it in vain
    return ray.get(list(calls))


def _measure(torch: Any, dist: Any, device: Any) -> float:
    tensor = torch.ones(REDUCED_BYTES // 4, device=device)
    began = time.perf_counter()
    dist.all_reduce(tensor)
    is_right = bool((tensor == 2).all())  # waits for a GPU, too
    seconds = time.perf_counter() - began
    if not is_right:
        raise ClusterError("the sum of the two nodes' numbers is wrong")
    return seconds
