"""On which nodes of the cluster a trial is placed: where this process runs, and the label selector for all others."""

from __future__ import annotations

import socket
from collections.abc import Iterable

NODE_ID = "ray.io/node-id"  # a label that Ray gives every node


def find_own_node() -> tuple[str, str | None]:
    """This process's host name, and Ray's id of its node; None outside Ray."""
    import ray

    node_id = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
    return socket.gethostname(), node_id


def select_other_nodes(avoided: Iterable[str]) -> dict[str, str]:
    """The label selector of Ray for all nodes but those with these ids; empty where none is avoided."""
    ids = sorted(avoided)
    return {NODE_ID: f"!in({', '.join(ids)})"} if ids else {}
