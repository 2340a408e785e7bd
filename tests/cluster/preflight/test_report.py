"""What a terminal and a script get of a report."""

from __future__ import annotations

from dataclasses import replace

import yaml

from cluster.preflight.facts import Facts, Finding, Gpu, Node, Pair, Report, Storage
from cluster.preflight.report import describe_report, format_exclude, format_report, read_report

GIB = 1024**3
FACTS = Facts(
    python="3.11.7",
    packages={"torch": "2.11.0", "ray": "2.60.0", "numpy": None},
    addresses={"eth0": ["10.0.0.1"]},
    ray_gpus=0.0,
    gpus=[],
    gpu_fault=None,
    shm=8 * GIB,
    shm_free=7 * GIB,
    open_files=65536,
    temp="/tmp",
    temp_free=50 * GIB,
    storage=Storage(True, has_marker=True),
    clock=-0.0004,
)
WITH_GPUS = replace(FACTS, ray_gpus=1.0, gpus=[Gpu("H200", 139 * GIB, 140 * GIB)])
REPORT = Report(
    nodes=(
        Node("10.0.0.1", "one", is_head=True, facts=FACTS),
        Node("10.0.0.2", "10.0.0.2", facts=WITH_GPUS),
        Node("10.0.0.3", "three", silence="no answer within 120 s"),
    ),
    pairs=(
        Pair(("10.0.0.1", "10.0.0.2"), ("eth0", "eth0"), seconds=0.0321, bandwidth=522.6),
        Pair(("10.0.0.2", "10.0.0.3"), ("ib0", "ib1"), backend="nccl", fault="timed out"),
    ),
    findings=(Finding(("10.0.0.3",), "answer", "no answer within 120 s", "start it again"),),
    exclude=("10.0.0.4", "10.0.0.3"),
    skipped=("10.0.0.4",),
)
SHARED = "/dev/shm 7.0 GiB free, ulimit -n 65536, clock -0.000 s, temporary files 50 GiB free"


def test_a_report_is_a_line_for_each_node_pair_and_finding_and_the_line_for_the_profile() -> None:
    assert list(describe_report(REPORT)) == [
        f"10.0.0.1 one (head): Python 3.11.7, torch 2.11.0, ray 2.60.0, 0 GPUs, {SHARED}",
        f"10.0.0.2: Python 3.11.7, torch 2.11.0, ray 2.60.0, H200 with 139 of 140 GiB free, {SHARED}",
        "10.0.0.3 three: no answer",
        "10.0.0.4: excluded by the profile, not looked at",
        "10.0.0.1 - 10.0.0.2: gloo over eth0, 523 MB/s, an all-reduce in 32 ms",
        "10.0.0.2 - 10.0.0.3: nccl over ib0 and ib1 failed",
        "10.0.0.3: answer: no answer within 120 s; start it again",
        "exclude: [10.0.0.4, 10.0.0.3]",
    ]


def test_a_report_without_findings_says_so_in_its_last_line() -> None:
    report = Report(REPORT.nodes[:1], (), (), ())
    assert list(describe_report(report))[1:] == ["no findings on 1 node and 0 pairs"]


def test_a_report_comes_back_from_its_line_of_json() -> None:
    line = format_report(REPORT)
    assert "\n" not in line
    assert read_report(line) == REPORT


def test_the_line_for_the_profile_is_yaml_whatever_the_addresses_are() -> None:
    addresses = ["10.0.0.1", "fe80::1", "node-7", *(f"10.0.1.{number}" for number in range(100))]
    line = format_exclude(addresses)
    assert "\n" not in line
    assert yaml.safe_load(line) == {"exclude": addresses}
