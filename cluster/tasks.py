"""Work divided over all machines of a cluster: a function of one task, called for many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from cluster.addresses import check_head
from cluster.connect import connect, list_nodes
from cluster.errors import ClusterError
from cluster.resources import Node

T = TypeVar("T")

TASKS_PER_CPU = 2  # that are handed out: one runs, one waits
RETRIES = 3  # of a task whose machine was lost
WAIT_SECONDS = 600.0  # for room: an autoscaler takes minutes to add a machine


def run_on_cluster(
    function: Callable[[T], int], tasks: Sequence[T], address: str, wait_seconds: float = WAIT_SECONDS
) -> Iterator[int]:
    """What the function gives for each task, as it comes, from processes of one CPU on the machines at `address`.

    The machines need the same package, and the same paths. What the function raises is raised here, and ends the rest.
    Raises a ClusterError where the cluster does not answer, has no free CPU within `wait_seconds`, or lost a task's
    machine again and again.
    """
    if not tasks:
        return
    check_head(address)  # Ray itself tries for minutes
    with connect(address):
        import ray

        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        _wait_for_room(address, wait_seconds)
        handed_out = max(1, int(TASKS_PER_CPU * _count_cpus(list_nodes())))
        waiting = iter(tasks)
        running: list[Any] = [remote.remote(task) for task in islice(waiting, handed_out)]
        try:
            while running:
                done, running = ray.wait(running, num_returns=1, timeout=wait_seconds)
                if not done and not _count_cpus(list_nodes()):  # a task may take longer, but not without machines
                    raise _no_room_error(address, wait_seconds)
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


def _wait_for_room(address: str, seconds: float) -> None:
    """Wait until a process of one CPU has run on the cluster; Ray itself waits without limit."""
    import ray

    trial = ray.remote(num_cpus=1)(_do_nothing).remote()
    if not ray.wait([trial], timeout=seconds)[0]:
        error = _no_room_error(address, seconds)
        ray.cancel(trial)
        raise error


def _no_room_error(address: str, seconds: float) -> ClusterError:
    import ray

    nodes, free = list_nodes(), ray.available_resources().get("CPU", 0.0)
    has = (
        f"{len(nodes)} machine{'' if len(nodes) == 1 else 's'} with {_count_cpus(nodes):g} CPUs, {free:g} of them free"
    )
    return ClusterError(
        f"cluster {address}: no process got a CPU within {seconds:g} s; it has {has}. Wait for what runs there, or add "
        "machines, then start the command again, which goes on where it was"
    )


def _count_cpus(nodes: Sequence[Node]) -> float:
    return sum(node.cpus for node in nodes)


def _do_nothing() -> None:
    pass


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
