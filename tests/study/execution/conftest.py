"""Sessions without a Ray: on a single machine, and on a cluster of two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from open_session import OpenSession

from cluster.resources import Node
from study.execution.node_watch import WorkerNode


@pytest.fixture
def running(tmp_path: Path) -> OpenSession:
    return OpenSession(tmp_path / "s")


@pytest.fixture
def on_cluster(tmp_path: Path) -> OpenSession:
    """A session on a cluster of two nodes."""
    return OpenSession(tmp_path / "s", [WorkerNode(name, f"host-{name}", name, Node(1.0)) for name in "ab"])


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The actors that Ray is asked to kill."""
    killed: list[str] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    return killed
