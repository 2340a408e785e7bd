"""How many trials fit on machines, and what is refused because it does not fit."""

from __future__ import annotations

import pytest

from cluster.errors import ClusterError
from cluster.resources import Node, TrialResources, count_concurrent_trials


def test_as_many_trials_run_at_the_same_time_as_fit() -> None:
    assert count_concurrent_trials([Node(8)], TrialResources(2, 1)) == 4
    assert count_concurrent_trials([Node(8)], TrialResources(2, 1), most=3) == 3
    assert count_concurrent_trials([Node(2)], TrialResources(2, 1)) == 1


def test_more_workers_than_cpus_are_refused_with_the_numbers() -> None:
    with pytest.raises(ClusterError, match=r"workers.count 4 x workers.cpus 1 needs 4 CPUs, this machine has 2 CPUs; "):
        count_concurrent_trials([Node(2)], TrialResources(4, 1))


def test_more_gpus_than_there_are_are_refused_with_the_numbers() -> None:
    with pytest.raises(ClusterError, match=r"workers.count 2 x workers.gpus 1 needs 2 GPUs, this machine has 0 GPUs"):
        count_concurrent_trials([Node(8)], TrialResources(2, 1, 1))


def test_fewer_run_where_fewer_fit_than_the_study_allows() -> None:
    assert count_concurrent_trials([Node(4)], TrialResources(2, 1), most=3) == 2


def test_a_worker_never_spans_two_nodes() -> None:
    nodes = [Node(3), Node(3)]
    assert count_concurrent_trials(nodes, TrialResources(2, 2)) == 1
    with pytest.raises(ClusterError, match="do not fit on the nodes one by one"):
        count_concurrent_trials(nodes, TrialResources(1, 4))


def test_fractions_of_a_cpu_or_gpu_are_summed_without_rounding_errors() -> None:
    assert count_concurrent_trials([Node(0.3)], TrialResources(3, 0.1)) == 1
    assert count_concurrent_trials([Node(16, gpus=2)], TrialResources(1, 1, 0.5)) == 4
