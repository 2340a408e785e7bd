"""Looks at nodes of a real Ray: the facts of this machine, clocks, and nodes that say nothing."""

from __future__ import annotations

import os
import platform
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, ActorDiedErrorContext

from cluster.errors import ClusterError
from cluster.preflight.facts import Check, Node, Request
from cluster.preflight.nodes import (
    Observer,
    RayNode,
    explain,
    list_missing,
    list_nodes,
    look_at_nodes,
    measure_clock,
    sort_key,
)
from cluster.preflight.run import run_preflight

SECONDS = 100.0  # that a busy machine may take


def find_color() -> str:
    return "blue"


def break_off() -> str:
    raise ClusterError("the color cannot be read; paint it")


def end_process() -> str:
    os._exit(3)


def test_a_cluster_of_one_node_has_its_facts_and_no_pairs(ray_here: None, tmp_path: Path) -> None:
    check = Check("color", find_color, "paint it")
    report = run_preflight(("ray", "no-such-package"), str(tmp_path), check, seconds=SECONDS)
    (node,) = report.nodes
    assert node.is_head
    assert node.facts is not None, node.silence
    assert node.facts.python == platform.python_version()
    assert node.facts.packages == {"ray": version("ray"), "no-such-package": None}
    assert node.facts.storage is not None
    assert node.facts.storage.is_seen
    assert node.facts.value == "blue"
    assert node.address in [address for addresses in node.facts.addresses.values() for address in addresses]
    assert abs(node.facts.clock) <= node.facts.clock_error, "both are the same clock"
    assert [finding.check for finding in report.findings if finding.check not in ("ulimit", "/dev/shm")] == ["packages"]
    assert not report.pairs
    assert not list(tmp_path.iterdir())


def test_what_the_check_raises_is_a_fact_of_the_node(ray_here: None) -> None:
    request = Request(check=Check("color", break_off, "paint it"))
    (node,) = look_at_nodes(list_nodes(), request, None, SECONDS)
    assert node.facts is not None
    assert (node.facts.value, node.facts.fault) == (None, "the color cannot be read; paint it")


def test_a_node_whose_process_ends_is_reported_beside_the_others(ray_here: None) -> None:
    (here,) = list_nodes()
    request = Request(check=Check("color", end_process, "paint it"))
    (node,) = look_at_nodes([here], request, None, SECONDS)
    assert node.facts is None
    assert node.silence is not None
    assert node.silence.startswith("its process ended (")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR",
            "its worker process has died",
        ),
        ("The actor died because its node has died. Node Id: 0a", "its node has died"),
    ],
)
def test_of_what_ray_says_of_an_actor_that_died_the_reason_is_shown(said: str, reason: str) -> None:
    context = ActorDiedErrorContext(class_name="Observer", actor_id=bytes(16), pid=7, error_message=said)
    assert explain(ActorDiedError(context)) == reason
    assert explain(ActorDiedError()) == "The actor died unexpectedly before finishing this task"


def test_a_node_that_is_gone_is_reported_beside_the_others(ray_here: None) -> None:
    (here,) = list_nodes()
    gone = RayNode("0" * 56, "10.0.0.7", "seven", 0.0, is_head=False)
    nodes = look_at_nodes([here, gone], Request(), None, SECONDS)
    assert [node.facts is not None for node in nodes] == [True, False]
    assert nodes[1].silence is not None
    assert nodes[1].silence.startswith("its process ended (")


@pytest.mark.slow
def test_a_node_that_hangs_is_reported_with_what_it_looked_at(ray_here: None, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    check = Check("color", fifo.read_text, "paint it")  # nobody writes
    (node,) = look_at_nodes(list_nodes(), Request(check=check), None, 60.0)
    assert node.silence == "no answer within 60 s, while it looked at the color"


def test_a_process_that_looks_says_at_what() -> None:
    observer, goes_on = Observer(), threading.Event()
    seen: list[str] = []

    def find_slowly() -> str:
        seen.append(observer.read_step())
        goes_on.wait(SECONDS)
        return "blue"

    assert observer.read_step() == "its start"
    thread = threading.Thread(target=observer.look, args=(Request(check=Check("color", find_slowly, "")), "node", 0.0))
    thread.start()
    while not seen:
        time.sleep(0.01)
    assert (seen, observer.read_step()) == (["the color"], "the color")
    goes_on.set()
    thread.join()


def test_a_clock_is_read_to_within_half_of_the_way() -> None:
    def read() -> float:
        time.sleep(0.01)
        there = time.time() + 60.0
        time.sleep(0.01)
        return there

    ahead, error = measure_clock(read)
    assert error >= 0.01
    assert abs(ahead - 60.0) <= error


def test_machines_that_ray_does_not_have_are_listed_by_name_or_address() -> None:
    nodes = [RayNode("1", "10.0.0.1", "one", 0.0, is_head=True), RayNode("2", "two", "two", 0.0, is_head=False)]
    expected = {"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3"}
    silence = "no Ray runs there, or it has not joined the head"
    assert list_missing(expected, nodes) == [Node("10.0.0.3", "three", silence=silence)]


def test_addresses_are_ordered_by_their_numbers() -> None:
    addresses = ["node-b", "10.0.0.10", "10.0.0.9", "fe80::1"]
    assert sorted(addresses, key=sort_key) == ["10.0.0.9", "10.0.0.10", "fe80::1", "node-b"]


def test_the_head_is_looked_at_even_where_trials_keep_away_from_it(ray_here: None) -> None:
    (here,) = list_nodes()
    report = run_preflight(skipped=[here.address, "10.0.0.7"], expected=["10.0.0.7"], seconds=SECONDS)
    assert [node.address for node in report.nodes] == [here.address]
    assert report.skipped == ("10.0.0.7",)
    assert report.exclude == (here.address, "10.0.0.7")


def test_a_machine_that_is_expected_and_not_there_is_a_finding(ray_here: None) -> None:
    report = run_preflight(expected=["10.0.0.8"], seconds=SECONDS)
    assert (
        "10.0.0.8: answer: no Ray runs there, or it has not joined the head; see its log in Ray's temp folder there, "
        in (str(report.findings[-1]))
    )
    assert report.exclude[-1] == "10.0.0.8"
