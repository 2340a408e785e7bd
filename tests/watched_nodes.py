"""A watch of nodes on a cluster that the test sets, for tests of what failures on them lead to."""

from __future__ import annotations

from cluster.resources import Node
from study.config.run_settings import WorkerSettings
from study.execution.node_watch import NodeWatch, WorkerNode
from study.workers.failure import Failure, FailureKind

REASON = "RuntimeError: CUDA error: uncorrectable ECC error encountered"


def node(name: str, cpus: float = 2.0, gpus: float = 0.0) -> WorkerNode:
    return WorkerNode(name, f"host-{name}", f"10.0.0.{ord(name)}", Node(cpus, gpus))


def failed_on(name: str, kind: FailureKind = FailureKind.ERROR, reason: str = REASON) -> Failure:
    return Failure(kind, reason, f"host-{name}", name)


class Watched:
    """A watch of a cluster whose nodes the test sets."""

    def __init__(self, names: str = "abc", excluded: tuple[str, ...] = (), **workers: float) -> None:
        self.nodes = [node(name) for name in names]
        self.now = 0.0
        settings = WorkerSettings.model_validate(workers)
        self.watch = NodeWatch(lambda: self.nodes, settings, excluded, lambda: self.now)

    def fail(self, number: int, name: str, kind: FailureKind = FailureKind.ERROR, epoch: int = 0) -> bool:
        return self.watch.tries_elsewhere(number, failed_on(name, kind), epoch)

    def suspect(self, number: int, name: str) -> None:
        """Have a trial fail on a node and get further on another one."""
        assert self.fail(number, name)
        self.watch.note_progress(number, 1)

    def excluded(self) -> list[str]:
        return [event.node_id for event in self.watch.take_exclusions()]
