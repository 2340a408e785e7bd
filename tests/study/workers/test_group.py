"""The driver's end of a group of workers, whose run of Ray Train is not started or is a stand-in."""

from __future__ import annotations

import threading
import time
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.placement_groups import PlacementGroupRecord
from cluster.worker_ports import WORKER_PORTS
from study.workers.connections import CONTROLLER, DriverAddress
from study.workers.failure import Failure, FailureKind
from study.workers.group import Group
from study.workers.messages import CrewConfig, Failed, Task, encode

SECONDS = 30.0  # that a busy machine may take


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    """A group whose start was refused before anything of Ray was touched; the failure has been taken."""
    monkeypatch.setenv(WORKER_PORTS, "none")
    group = Group(CrewConfig("module:function", "/storage", 2))
    failure = group._receive(0.0)
    assert isinstance(failure, Failure)
    return group


def connect(group: Group, rank: int) -> Any:
    """The worker's end of a connection that the group reads."""
    own, other = Pipe()
    threading.Thread(target=group._serve, args=(rank, f"actor-{rank}", own), daemon=True).start()
    deadline = time.monotonic() + SECONDS
    while rank not in group._connections and time.monotonic() < deadline:
        time.sleep(0.01)
    return other


def run(group: Group, error: Exception) -> None:
    """The run of Ray Train ends with an error."""

    def fit() -> None:
        raise error

    group._trainer = SimpleNamespace(fit=fit)  # type: ignore[assignment]
    group._fit()


def test_a_group_without_a_port_to_listen_on_fails_its_start_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER_PORTS, "0")
    group = Group(CrewConfig("module:function", "/storage", 2))
    failure = group.next(SECONDS)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.START
    assert failure.reason.startswith("DECRED_WORKER_PORTS is '0', but must be LOW-HIGH")
    assert not group.usable
    group.close()


@pytest.mark.parametrize("lost", [0, 1])
def test_the_worker_whose_connection_closed_first_is_the_lost_one(lost: int, group: Group) -> None:
    """Ray Train ends the others when one is lost, and the error that it raises wakes all readers at once."""
    ends = {rank: connect(group, rank) for rank in (0, 1)}
    ends[lost].close()
    assert group._loss.wait(SECONDS)
    ends[1 - lost].close()
    run(group, RuntimeError("a worker died"))
    failure = group._receive(SECONDS)
    assert failure == Failure(FailureKind.LOST, f"worker {lost} of 2 was lost (RuntimeError: a worker died)")


def test_workers_whose_machine_is_gone_are_lost_although_their_connections_stay_open(group: Group) -> None:
    ends = [connect(group, rank) for rank in (0, 1)]
    run(group, RuntimeError("the node is gone"))
    assert group._receive(SECONDS) == Failure(
        FailureKind.LOST, "all 2 workers were lost (RuntimeError: the node is gone)"
    )
    del ends


def test_workers_that_have_their_resources_and_do_not_connect_are_told_from_those_without_room(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = PlacementGroupRecord("group", "actor--1", creator_is_dead=False, is_placed=True)
    monkeypatch.setattr("study.workers.group.list_placement_groups", lambda: [placed])
    monkeypatch.setattr("ray.cluster_resources", dict)
    monkeypatch.setattr("ray.available_resources", dict)
    group._listener = SimpleNamespace(address=DriverAddress("10.0.0.1", 10002, ""))  # type: ignore[assignment]
    assert group._explain_wait() == "Ray Train did not start beside the trial's driver; see Ray's logs on that machine"
    end = connect(group, CONTROLLER)
    assert group._explain_wait().startswith(
        "they have their resources, but did not connect to the driver at 10.0.0.1:10002; see the workers' logs"
    )
    end.close()


@pytest.mark.parametrize("came", [[], [CONTROLLER], [CONTROLLER, 1]])
def test_a_run_that_ends_before_all_workers_came_is_a_start_that_failed(came: list[int], group: Group) -> None:
    ends = [connect(group, rank) for rank in came]
    run(group, ValueError("no such image"))
    expected = Failure(FailureKind.START, "the workers did not start: ValueError: no such image")
    assert group._receive(SECONDS) == expected
    del ends


@pytest.mark.parametrize(
    ("kinds", "is_usable"),
    [
        ((FailureKind.NON_FINITE, FailureKind.NON_FINITE), True),
        ((FailureKind.NON_FINITE, FailureKind.IMPOSSIBLE), False),
    ],
)
def test_workers_take_another_recipe_only_where_all_of_them_failed_alike(
    kinds: tuple[FailureKind, ...], is_usable: bool, group: Group
) -> None:
    """Others were at two places in training, and may have left a sum over all ranks half done."""
    ends = [connect(group, rank) for rank in (0, 1)]
    group.begin(Task("{}", "hash", "/folder"))
    for end, kind in zip(ends, kinds, strict=True):
        end.send_bytes(encode(Failed(kind, "the reason", reusable=True)))
    assert group.next(SECONDS) == Failure(kinds[0], "the reason")
    assert group.usable is is_usable


def test_a_start_that_is_given_up_is_no_lost_worker_where_one_had_come(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "_lacks_room", lambda: False)
    monkeypatch.setattr(group, "_explain_wait", lambda: "the others hang")
    group._listener = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]
    end = connect(group, 1)
    run_ends = threading.Thread(target=lambda: (end.recv_bytes(), end.close(), group._ended.set()))
    run_ends.start()  # as Ray ends it
    group._give_up(7.0)
    assert group._receive(SECONDS) == Failure(
        FailureKind.START, "1 of 2 workers came within 7 s: the others hang", lacks_room=False
    )
    run_ends.join(SECONDS)
    assert group._receive(0.5) is None
