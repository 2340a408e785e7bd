"""The whole of preflight, on the head of a cluster: nodes, then pairs, then what is wrong with them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from cluster.connect import connect
from cluster.preflight.facts import Check, Node, Report, Request
from cluster.preflight.judge import choose_excluded, judge_nodes, judge_pairs

NO_PROCESS = ("python", "packages")  # with such a finding a node cannot compute with others


def run_preflight(
    packages: Sequence[str] = (),
    storage: str | None = None,
    check: Check | None = None,
    expected: Sequence[str] = (),
    skipped: Sequence[str] = (),
    seconds: float = 120.0,
) -> Report:
    """Look at all nodes of the cluster that this process runs on the head of, and at the network between them.

    `expected` are machines that should be there, `skipped` those that are not looked at. A node has to answer within
    `seconds`. Raises a ClusterError where there is no cluster.
    """
    with connect("auto"), ExitStack() as stack:
        from cluster.preflight.nodes import list_missing, list_nodes, look_at_nodes
        from cluster.preflight.pairs import measure_pairs
        from cluster.preflight.storage import open_probe

        request = Request(tuple(packages), storage, check=check)
        probe = stack.enter_context(open_probe(storage)) if storage is not None else None
        if probe is not None:
            request = replace(request, probe=str(probe.folder), token=probe.token)
        # The head is what the others are compared with, even where no trials are to run on it.
        ray_nodes = [node for node in list_nodes() if node.is_head or node.address not in skipped]
        nodes = look_at_nodes(ray_nodes, request, probe, seconds)
        known = {name: resolve(name) for name in expected}
        nodes += list_missing({name: ip for name, ip in known.items() if not {name, ip} & set(skipped)}, ray_nodes)
        findings = judge_nodes(nodes, request)
        idle = {finding.addresses[0] for finding in findings if finding.check in NO_PROCESS}
        able = {node.address for node in nodes if node.facts is not None} - idle
        pairs = measure_pairs([node for node in ray_nodes if node.address in able], _list_with_gpus(nodes))
        findings += judge_pairs(pairs)
        return Report(
            tuple(nodes),
            tuple(pairs),
            tuple(findings),
            exclude=tuple(dict.fromkeys([*skipped, *choose_excluded(nodes, findings)])),
            skipped=tuple(address for address in skipped if address not in {node.address for node in nodes}),
        )


def resolve(name: str) -> str:
    """The IP address of a host, or the name where nobody knows it."""
    try:
        return socket.gethostbyname(name)
    except OSError:
        return name


def _list_with_gpus(nodes: Sequence[Node]) -> set[str]:
    return {node.address for node in nodes if node.facts is not None and any(not gpu.fault for gpu in node.facts.gpus)}
