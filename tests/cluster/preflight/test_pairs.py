"""All-reduces of two processes of a real Ray, and which pairs a ring of nodes has."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.preflight.nodes import RayNode, list_nodes
from cluster.preflight.pairs import REDUCED_BYTES, make_ring, measure_pair, measure_pairs


@pytest.mark.parametrize("count", range(10))
def test_a_ring_joins_each_node_with_two_others_in_rounds_of_different_nodes(count: int) -> None:
    rounds = make_ring(range(count))
    pairs = [frozenset(pair) for round_ in rounds for pair in round_]
    neighbours = {frozenset((node, (node + 1) % count)) for node in range(count)} if count > 1 else set()
    assert set(pairs) == neighbours
    assert len(pairs) == len(neighbours)
    for round_ in rounds:
        assert round_
        assert max(Counter(node for pair in round_ for node in pair).values()) == 1
    assert len(rounds) <= 3


def test_two_processes_compute_an_all_reduce_and_its_bandwidth(ray_here: None) -> None:
    (node,) = list_nodes()
    pair = measure_pair(node, node, set())
    assert pair.fault is None
    assert pair.seconds is not None
    assert pair.bandwidth == pytest.approx(REDUCED_BYTES / pair.seconds / 1e6)
    assert pair.backend == "gloo"
    assert pair.interfaces[0] is not None


def test_a_node_that_does_not_have_its_address_is_the_fault_of_its_pair(ray_here: None) -> None:
    (node,) = list_nodes()
    other = RayNode(node.id, "192.0.2.1", "elsewhere", 0.0, is_head=False)
    (pair,) = measure_pairs([node, other], set())
    assert pair.seconds is None
    assert pair.fault is not None
    assert pair.fault.startswith("they cannot compute an all-reduce together (192.0.2.1 cannot be listened on (")


def test_a_single_node_has_no_pair() -> None:
    assert measure_pairs([RayNode("1", "10.0.0.1", "one", 0.0, is_head=True)], set()) == []
