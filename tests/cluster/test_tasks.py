"""Work on a cluster without room ends with what is missing; preparing on a cluster is in tests/end_to_end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from cluster.errors import ClusterError
from cluster.tasks import run_on_cluster


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def address(ray_here: None) -> str:
    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture
def other_study(address: str) -> Iterator[None]:
    """One that holds both CPUs."""
    group = ray.util.placement_group([{"CPU": 2}])
    ray.get(group.ready(), timeout=60)
    yield
    ray.util.remove_placement_group(group)


def test_the_results_of_all_tasks_come_back(address: str) -> None:
    assert sorted(run_on_cluster(double, range(7), address)) == [0, 2, 4, 6, 8, 10, 12]


def test_a_cluster_whose_cpus_others_have_is_one_line_that_says_so(address: str, other_study: None) -> None:
    message = (
        rf"^cluster {address}: no process got a CPU within 0.2 s; it has 1 machine with 2 CPUs, 0 of them free. "
        "Wait for what runs there, or add machines, then start the command again, which goes on where it was$"
    )
    with pytest.raises(ClusterError, match=message):
        list(run_on_cluster(double, [1], address, wait_seconds=0.2))
