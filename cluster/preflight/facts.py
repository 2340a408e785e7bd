"""What preflight finds out: facts of nodes and of pairs of nodes, as values that JSON has too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that is looked at on every node, beside what is always looked at.

    `look` returns a value that has to be the same on all nodes; an error that it raises is a fault of the node.
    """

    name: str
    look: Callable[[], str]
    remedy: str


@dataclass(frozen=True)
class Request:
    """What is looked at on every node."""

    packages: tuple[str, ...] = ()  # whose versions are compared
    storage: str | None = None  # a folder that all nodes share
    probe: str = ""  # the folder in it with the markers
    token: str = ""  # what the head's marker holds
    check: Check | None = None


@dataclass(frozen=True)
class Gpu:
    """One GPU as torch sees it; memory in bytes."""

    name: str
    free: int
    total: int
    fault: str | None = None  # why nothing can be computed on it


@dataclass(frozen=True)
class Storage:
    """What a node sees of the shared folder; `mount` is the file system that holds it, and where that is mounted."""

    is_folder: bool
    mount: str = ""
    has_marker: bool = False  # the one that the head wrote
    fault: str | None = None  # why it cannot be written
    is_seen: bool | None = None  # whether the head sees what the node wrote; None where this was not tried


@dataclass(frozen=True)
class Facts:
    """What a process that Ray starts on a node sees; sizes in bytes."""

    python: str
    packages: dict[str, str | None]  # None where a package is missing
    addresses: dict[str, list[str]]  # of each interface
    ray_gpus: float
    gpus: list[Gpu]
    gpu_fault: str | None  # why torch does not see GPUs
    shm: int
    shm_free: int
    open_files: int
    temp: str  # Ray's folder for temporary files
    temp_free: int
    storage: Storage | None = None
    value: str | None = None  # of the check
    fault: str | None = None
    clock: float = 0.0  # seconds that the node's clock is ahead of the head's
    clock_error: float = 0.0  # bound of its error


@dataclass(frozen=True)
class Node:
    """One machine of the cluster; it has no facts where it did not answer, for the reason in `silence`."""

    address: str
    host: str
    is_head: bool = False
    facts: Facts | None = None
    silence: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two nodes that computed an all-reduce together, or could not, for the reason in `fault`.

    `worker_ports` is where workers listen, LOW-HIGH, or None for any port; `system_ports` where gloo and NCCL do.
    """

    addresses: tuple[str, str]
    interfaces: tuple[str | None, str | None] = (None, None)
    backend: str = "gloo"
    worker_ports: str | None = None
    system_ports: str | None = None
    seconds: float | None = None  # of one all-reduce
    bandwidth: float | None = None  # MB/s that each of the two sends, and receives at the same time
    fault: str | None = None


@dataclass(frozen=True)
class Finding:
    """A fault of one node, or of the way between two, and what to do."""

    addresses: tuple[str, ...]
    check: str
    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{' - '.join(self.addresses)}: {self.check}: {self.fault}; {self.remedy}"


@dataclass(frozen=True)
class Report:
    """All that preflight found; the nodes in `skipped` were not looked at.

    `exclude` are addresses without which no finding is left, those of `skipped` included.
    """

    nodes: tuple[Node, ...]
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    exclude: tuple[str, ...]
    skipped: tuple[str, ...] = ()
