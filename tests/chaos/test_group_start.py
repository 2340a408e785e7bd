"""Groups of workers that do not come in time, and drivers that are killed: their resources are free afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from hanging_start import serve_but_rank_1
from stub_training import SUCCEEDS

from cluster.placement_groups import OrphanWatch, PlacementGroupRecord, list_placement_groups
from cluster.worker_ports import WORKER_PORTS
from model.recipe.files import named_recipe, with_values
from study.workers import trainer
from study.workers.connections import CONTROLLER
from study.workers.driver import open_crew
from study.workers.failure import Failure, FailureKind
from study.workers.messages import CrewConfig, Report, Task

CPUS = 2  # of the tests' Ray
PATIENCE = 120.0  # seconds for anything that a busy machine may be slow at


class _Driver:
    """A trial's driver: an actor, which opens a group. With `ports`, servers listen within them; `serve` is what a
    worker does instead of serving it."""

    def __init__(self, config: CrewConfig, ports: str = "", serve: Callable[..., None] | None = None) -> None:
        os.environ[WORKER_PORTS] = ports
        if serve is not None:
            trainer.serve_driver = serve
        self._crew = open_crew(config)

    def process(self) -> int:
        return os.getpid()

    def begin(self, folder: str) -> None:
        recipe = with_values(named_recipe("tiny", "/speech"), {"training.epochs": 1, "training.seed": SUCCEEDS})
        self._crew.begin(Task(recipe.model_dump_json(), recipe.hash, folder))

    def next(self, seconds: float) -> Any:
        return self._crew.next(seconds)

    def is_usable(self) -> bool:
        return self._crew.usable

    def port(self) -> int:
        return self._crew._listener.address.port  # type: ignore[attr-defined, no-any-return]

    def count_workers(self) -> int:
        return len([rank for rank in self._crew._connections if rank != CONTROLLER])  # type: ignore[attr-defined]

    def expire(self) -> None:
        """The time for its start is over, whatever the clock shows."""
        self._crew._give_up()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._crew.close()


Start = Callable[..., Any]


@pytest.fixture
def start_driver(ray_here: None, tmp_path: Path) -> Iterator[Start]:
    """Starts drivers of two workers with `cpus` each; their folder is made."""
    drivers = []

    def start(cpus: float, start_seconds: float = 600.0, ports: str = "", serve: Any = None) -> Any:
        config = CrewConfig("stub_training:train", str(tmp_path / "train"), 2, cpus, start_seconds=start_seconds)
        drivers.append(ray.remote(num_cpus=0)(_Driver).remote(config, ports, serve))
        return drivers[-1]

    yield start
    for driver in drivers:
        ray.kill(driver)
    release_all()


def wait_until(find: Callable[[], Any], message: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := find()):
        assert time.monotonic() < deadline, message
        time.sleep(0.1)
    return found


def release_all() -> None:
    """As a study does after a driver was lost."""
    watch = OrphanWatch()
    watch.begin()

    def is_done() -> bool:
        watch.step()
        return not list_placement_groups()

    wait_until(is_done, f"Ray keeps {list_placement_groups()}")


def kill(driver: Any) -> None:
    os.kill(ray.get(driver.process.remote()), signal.SIGKILL)


def find_group(is_placed: bool) -> PlacementGroupRecord:
    groups = wait_until(
        lambda: [group for group in list_placement_groups() if group.is_placed is is_placed],
        f"no group was made that is {'placed' if is_placed else 'waiting'}",
    )
    assert len(groups) == 1
    return groups[0]


def wait_for_free_cpus() -> None:
    wait_until(lambda: ray.available_resources().get("CPU", 0.0) == CPUS, "the CPUs were not released")


@pytest.mark.chaos
def test_a_start_that_finds_no_room_fails_with_one_line_and_releases_its_request(start_driver: Start) -> None:
    driver = start_driver(cpus=CPUS)  # two workers, of which one has room
    find_group(is_placed=False)
    ray.get(driver.expire.remote())
    failure = ray.get(driver.next.remote(PATIENCE))
    assert failure == Failure(
        FailureKind.START,
        "0 of 2 workers came within 600 s: Ray has no room for 2 workers with CPU 2 each, free in the whole cluster: "
        "CPU 2 of 2; add machines, wait until others release theirs, or lower workers.count or what each worker gets",
        lacks_room=True,
    )
    assert not ray.get(driver.is_usable.remote())
    assert list_placement_groups() == []
    ray.get(driver.close.remote())  # once more, as the driver does before it opens the next one


@pytest.mark.chaos
def test_a_start_ends_when_its_time_is_over_and_the_next_group_finds_room(start_driver: Start, tmp_path: Path) -> None:
    driver = start_driver(cpus=1, start_seconds=0.5)  # no process starts as quickly
    failure = ray.get(driver.next.remote(PATIENCE))
    assert failure.kind is FailureKind.START
    assert failure.reason.startswith("0 of 2 workers came within 0.5 s: ")
    wait_for_free_cpus()
    release_all()
    another = start_driver(cpus=1)
    ray.get(another.begin.remote(str(tmp_path)))
    assert isinstance(ray.get(another.next.remote(PATIENCE)), Report), "the next group did not start"


@pytest.mark.chaos
def test_a_worker_whose_start_hangs_fails_the_start_of_its_group_which_releases_all(start_driver: Start) -> None:
    driver = start_driver(cpus=1, serve=serve_but_rank_1)
    wait_until(lambda: ray.get(driver.count_workers.remote()) == 1, "no worker came")
    ray.get(driver.expire.remote())
    failure = ray.get(driver.next.remote(PATIENCE))
    assert failure.kind is FailureKind.START
    assert failure.reason.startswith("1 of 2 workers came within 600 s: they have their resources, but did not connect")
    assert not ray.get(driver.is_usable.remote())
    wait_for_free_cpus()


@pytest.mark.chaos
def test_a_driver_that_is_killed_before_its_workers_come_leaves_no_request_behind(start_driver: Start) -> None:
    driver = start_driver(cpus=CPUS)
    waiting = find_group(is_placed=False)
    kill(driver)
    wait_until(
        lambda: [group for group in list_placement_groups() if group.creator_is_dead],
        "Ray removed it by itself, or did not notice",
    )
    assert [group.id for group in list_placement_groups()] == [waiting.id], "this test needs what Ray keeps"
    release_all()


@pytest.mark.chaos
def test_a_driver_that_is_killed_while_it_trains_frees_its_own_resources_and_no_others(
    start_driver: Start, tmp_path: Path
) -> None:
    killed, living = start_driver(cpus=CPUS / 4), start_driver(cpus=CPUS / 4)
    for driver in (killed, living):
        ray.get(driver.begin.remote(str(tmp_path)))
        assert isinstance(ray.get(driver.next.remote(PATIENCE)), Report)
    assert len(list_placement_groups()) == 2
    kill(killed)
    watch = OrphanWatch()
    watch.begin()

    def is_alone() -> bool:
        watch.step()
        return len(list_placement_groups()) == 1

    wait_until(is_alone, "the killed driver's group was not released")
    wait_until(lambda: ray.available_resources().get("CPU", 0.0) == CPUS / 2, "its CPUs were not released")
    (left,) = list_placement_groups()
    assert left.is_placed
    assert not left.creator_is_dead
    assert ray.get(living.is_usable.remote())


@pytest.mark.chaos
def test_a_group_whose_servers_listen_within_a_range_of_ports_trains(start_driver: Start, tmp_path: Path) -> None:
    driver = start_driver(cpus=1, ports="21000-21400")
    ray.get(driver.begin.remote(str(tmp_path)))
    report = ray.get(driver.next.remote(PATIENCE))
    assert isinstance(report, Report)
    assert report.metrics["ranks"] == 2
    assert 21000 <= ray.get(driver.port.remote()) <= 21400
    ray.get(driver.close.remote())
    assert list_placement_groups() == []
    wait_for_free_cpus()
