"""The report of a preflight, as JSON and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml
from pydantic import TypeAdapter

from cluster.preflight.facts import Facts, Node, Pair, Report

GIB = 1024**3
NAMED = ("torch", "ray")  # packages whose versions are shown in a node's line
_JSON = TypeAdapter(Report)


def format_report(report: Report) -> str:
    """One line of JSON."""
    return _JSON.dump_json(report).decode()


def read_report(line: str) -> Report:
    """The report in a line that `format_report` made."""
    return _JSON.validate_json(line)


def describe_report(report: Report) -> Iterator[str]:
    """A line a node, a pair and a finding; the last one is the profile's `exclude`, or says that all is well."""
    yield from map(describe_node, report.nodes)
    yield from (f"{address}: excluded by the profile, not looked at" for address in report.skipped)
    yield from map(describe_pair, report.pairs)
    yield from map(str, report.findings)
    if report.findings:
        yield format_exclude(report.exclude)
    else:
        yield f"no findings on {_count(report.nodes, 'node')} and {_count(report.pairs, 'pair')}"


def format_exclude(addresses: Sequence[str]) -> str:
    """The line of a profile that names them."""
    return yaml.safe_dump({"exclude": list(addresses)}, default_flow_style=None, width=10_000).strip()


def describe_node(node: Node) -> str:
    """A node and its main facts."""
    name = f"{node.address} {node.host}" if node.host != node.address else node.address
    return f"{name}{' (head)' if node.is_head else ''}: {describe_facts(node.facts) if node.facts else 'no answer'}"


def describe_facts(facts: Facts) -> str:
    """The main facts of a node."""
    gpus = [f"{gpu.name} with {gpu.free / GIB:.0f} of {gpu.total / GIB:.0f} GiB free" for gpu in facts.gpus]
    return ", ".join(
        [
            f"Python {facts.python}",
            *(f"{name} {facts.packages[name]}" for name in NAMED if facts.packages.get(name)),
            *(gpus or [f"{facts.ray_gpus:g} GPUs"]),
            f"/dev/shm {facts.shm_free / GIB:.1f} GiB free",
            f"ulimit -n {facts.open_files}",
            f"clock {facts.clock:+.3f} s",
            f"temporary files {facts.temp_free / GIB:.0f} GiB free",
        ]
    )


def describe_pair(pair: Pair) -> str:
    """A pair and its bandwidth."""
    first, second = (name or "none" for name in pair.interfaces)
    over = first if first == second else f"{first} and {second}"
    if pair.seconds is None or pair.bandwidth is None:
        return f"{' - '.join(pair.addresses)}: {pair.backend} over {over} failed"
    speed = f"{pair.bandwidth:.0f} MB/s, an all-reduce in {pair.seconds * 1000:.0f} ms"
    return f"{' - '.join(pair.addresses)}: {pair.backend} over {over}, {speed}"


def _count(values: Sequence[object], unit: str) -> str:
    return f"{len(values)} {unit}{'' if len(values) == 1 else 's'}"
