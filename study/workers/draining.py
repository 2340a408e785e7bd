"""Nodes that Ray drains: they were announced to be taken, as spot and preempted machines are, and get no new work.

Ray Train has a watcher of its own, a process more for each group, which no single worker has. Both read the same list
of Ray's head.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

LOOK_SECONDS = 1.0  # between two looks at Ray's list


def list_draining_nodes() -> dict[str, float | None]:
    """Ray's ids of the nodes that are drained, and when each is taken in Unix seconds; None where that is not known."""
    import ray
    from ray._private.state import state

    if not ray.is_initialized():
        return {}
    return {node: deadline / 1000.0 if deadline else None for node, deadline in state.get_draining_nodes().items()}


class DrainWatch:
    """Looks again and again, in a thread of its own: where Ray's head is away, a look takes until it is back."""

    def __init__(
        self,
        list_nodes: Callable[[], Mapping[str, float | None]] = list_draining_nodes,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._list_nodes, self._seconds = list_nodes, seconds
        self._draining: Mapping[str, float | None] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._look, name="draining", daemon=True).start()

    def describe(self, node_ids: Collection[str]) -> str | None:
        """What was announced of one of these nodes; None where none of them is drained."""
        draining = self._draining
        found = [draining[node] for node in node_ids if node in draining]
        if not found:
            return None
        deadlines = [deadline for deadline in found if deadline is not None]
        left = max(0.0, min(deadlines) - time.time()) if deadlines else None
        return "Ray drains its node" + ("" if left is None else f", which is taken in {left:.0f} s")

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(self._seconds):
            try:
                self._draining = self._list_nodes()
            except Exception:  # Ray raises its own kinds; a trial does not fail for what it only looks at
                continue
