"""Nodes that came back are asked to report what is free on them; the fault itself is in `test_cluster_faults.py`."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import usage
from cluster.usage import DOUBT_SECONDS, ReturnWatch


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The ids and addresses of the nodes that were asked, in place of tasks that run there."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(usage, "ask_for_report", lambda node, address: asked.append((node, address)))
    return asked


def make_node(id: str, address: str, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": id, "NodeManagerAddress": address, "Alive": alive}


def run(nodes: list[dict[str, Any]], used: set[str], times: list[float]) -> list[float]:
    """When a node was asked, of the times at which the cluster was looked at."""
    now = [0.0]
    watch = ReturnWatch(lambda: now[0])
    found = []
    for now[0] in times:
        if watch.step(nodes, used):
            found.append(now[0])
    return found


def test_a_node_that_came_back_and_seems_to_be_used_is_asked_more_and_more_rarely(asked: list[tuple[str, str]]) -> None:
    nodes = [make_node("dead", "10.0.0.2", alive=False), make_node("new", "10.0.0.2"), make_node("other", "10.0.0.3")]
    times = run(nodes, {"new", "other"}, [float(second) for second in range(80)])
    assert times == [DOUBT_SECONDS, 3 * DOUBT_SECONDS, 7 * DOUBT_SECONDS, 15 * DOUBT_SECONDS]
    assert set(asked) == {("new", "10.0.0.2")}


@pytest.mark.parametrize(
    ("nodes", "used"),
    [
        ([make_node("dead", "10.0.0.2", alive=False), make_node("new", "10.0.0.2")], set()),
        ([make_node("dead", "10.0.0.2", alive=False), make_node("other", "10.0.0.3")], {"other"}),
        ([make_node("dead", "10.0.0.2", alive=False)], {"dead"}),
    ],
)
def test_a_node_that_is_free_or_was_never_away_or_is_dead_is_not_asked(
    nodes: list[dict[str, Any]], used: set[str], asked: list[tuple[str, str]]
) -> None:
    assert run(nodes, used, [0.0, 100.0, 200.0]) == []
    assert asked == []


def test_a_short_use_gives_no_doubt(asked: list[tuple[str, str]]) -> None:
    nodes, now = [make_node("dead", "10.0.0.2", alive=False), make_node("new", "10.0.0.2")], [0.0]
    watch = ReturnWatch(lambda: now[0])
    for second in range(30):
        now[0] = float(second)
        watch.step(nodes, {"new"} if second % 4 else set())
    assert asked == []
