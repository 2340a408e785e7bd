"""Work divided over all machines of a cluster: a function of one task, called for many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from cluster.addresses import check_head
from cluster.connect import connect
from cluster.errors import ClusterError

T = TypeVar("T")

TASKS_PER_CPU = 2  # that are handed out: one runs, one waits
RETRIES = 3  # of a task whose machine was lost


def run_on_cluster(function: Callable[[T], int], tasks: Sequence[T], address: str) -> Iterator[int]:
    """What the function gives for each task, as it comes, from processes of one CPU on the machines at `address`.

    The machines need the same package, and the same paths. What the function raises is raised here, and ends the rest.
    Raises a ClusterError where the cluster does not answer, or a task's machine was lost again and again.
    """
    if not tasks:
        return
    check_head(address)  # Ray itself tries for minutes
    with connect(address) as nodes:
        import ray

        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        handed_out = max(1, int(TASKS_PER_CPU * sum(node.cpus for node in nodes)))
        waiting = iter(tasks)
        running: list[Any] = [remote.remote(task) for task in islice(waiting, handed_out)]
        try:
            while running:
                done, running = ray.wait(running, num_returns=1)
                yield from ray.get(done)
                running += [remote.remote(task) for task in islice(waiting, len(done))]
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"cluster {address}: a part of the work was lost {RETRIES + 1} times ({_first_line(error)}); see which "
                "machine ends its processes, then start the command again, which goes on where it was"
            ) from None
        finally:
            for task in running:
                ray.cancel(task)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
