"""Every fault that preflight knows, planted in the facts of one node, and of one pair, of a cluster that is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.preflight.facts import Check, Facts, Finding, Gpu, Node, Pair, Request, Storage
from cluster.preflight.judge import choose_excluded, judge_nodes, judge_pairs

GIB = 1024**3
CHECK = Check("corpus", lambda: "", "mount the corpus")
REQUEST = Request(packages=("torch", "ray"), storage="/data", check=CHECK)
WELL = Facts(
    python="3.11.7",
    packages={"torch": "2.11.0", "ray": "2.60.0"},
    addresses={},
    ray_gpus=1.0,
    gpus=[Gpu("H200", 139 * GIB, 140 * GIB)],
    gpu_fault=None,
    shm=8 * GIB,
    shm_free=7 * GIB,
    open_files=65536,
    temp="/tmp",
    temp_free=50 * GIB,
    storage=Storage(True, "nfs4 server:/data on /data", has_marker=True, is_seen=True),
    value="fingerprint one",
    clock=0.001,
    clock_error=0.002,
)
OTHER_STORAGE = Storage(True, "ext4 /dev/sda1 on /", has_marker=False)
PAIR = Pair(("10.0.0.1", "10.0.0.2"), ("eth0", "ib0"), "gloo", "10002-19999", "32768-60999")

# What is changed in a node that is well, and the words of the one finding that has to come of it.
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    (
        "another Python",
        {"python": "3.11.4"},
        "python: Python 3.11.4, but 3.11.7 on the head; start Ray there with Python 3.11.7, since Ray needs the same "
        "to the patch",
    ),
    (
        "another version of a package",
        {"packages": {"torch": "2.10.1", "ray": "2.60.0"}},
        "packages: torch 2.10.1, but 2.11.0 on the head; install there what the head has: pip install torch==2.11.0",
    ),
    (
        "a missing package",
        {"packages": {"torch": None, "ray": "2.60.0"}},
        "packages: torch not installed; install there: pip install torch==2.11.0",
    ),
    (
        "GPUs that torch does not see",
        {"gpus": [], "gpu_fault": "the driver is too old"},
        "gpu: Ray has 1 GPU, but torch sees 0 (the driver is too old); compare with nvidia-smi there: install a torch "
        "that its driver can run, or start Ray with fewer GPUs",
    ),
    (
        "a GPU that computes nothing",
        {"gpus": [Gpu("H200", 139 * GIB, 140 * GIB, "uncorrectable ECC error")]},
        "gpu: nothing can be computed on GPU 0, H200 (uncorrectable ECC error); reset or replace it, or start Ray "
        "there without it (CUDA_VISIBLE_DEVICES)",
    ),
    (
        "a GPU whose memory others hold",
        {"gpus": [Gpu("H200", 100 * GIB, 140 * GIB)]},
        "gpu memory: GPU 0, H200, has 100.0 GiB of 140.0 GiB free; end what holds it (nvidia-smi names the processes), "
        "or wait for it",
    ),
    (
        "a small /dev/shm",
        {"shm": GIB // 16, "shm_free": GIB // 32},
        "/dev/shm: 32 MiB of 64 MiB free, less than 512 MiB; mount a larger one (mount -o remount,size=8G /dev/shm; "
        "docker --shm-size; an emptyDir of medium Memory)",
    ),
    (
        "few open files",
        {"open_files": 1024},
        "ulimit: a worker may open 1024 files, less than 4096; raise `ulimit -n`, soft and hard, to 65536 for Ray's "
        "processes, and start Ray there again",
    ),
    (
        "a clock that is behind",
        {"clock": -7.25, "clock_error": 0.5},
        "clock: its clock is 7.2 s behind the head's; set it by NTP (chronyc makestep; timedatectl set-ntp true)",
    ),
    (
        "a clock that is ahead",
        {"clock": 90.0},
        "clock: its clock is 90.0 s ahead of the head's; set it by NTP (chronyc makestep; timedatectl set-ntp true)",
    ),
    (
        "a full temporary folder",
        {"temp_free": GIB // 2},
        "temporary files: 512 MiB free in /tmp, less than 1024 MiB; free space there, or start Ray with a --temp-dir "
        "on a larger disk",
    ),
    (
        "no storage",
        {"storage": Storage(is_folder=False)},
        "storage: /data is no folder; mount it there, or correct `storage` in the profile",
    ),
    (
        "another storage under the same path",
        {"storage": OTHER_STORAGE},
        "storage: /data is not the one that the head has (it is ext4 /dev/sda1 on /, on the head nfs4 server:/data on "
        "/data); mount the head's file system under this path",
    ),
    (
        "a storage of which the head does not see what is written",
        {"storage": Storage(True, "overlay overlay on /", has_marker=True, is_seen=False)},
        "storage: /data is not the one that the head has (it is overlay overlay on /, on the head nfs4 server:/data on "
        "/data); mount the head's file system under this path",
    ),
    (
        "a read-only storage",
        {"storage": Storage(True, "", True, "Read-only file system for user 0")},
        "storage: /data cannot be written (Read-only file system for user 0); mount it for writing, and correct its "
        "permissions",
    ),
    (
        "no corpus",
        {"value": None, "fault": "/corpora/demo: no such folder"},
        "corpus: /corpora/demo: no such folder; mount the corpus",
    ),
    (
        "another corpus",
        {"value": "fingerprint two"},
        "corpus: fingerprint two, but fingerprint one on the head; mount the corpus",
    ),
]


def make_nodes(facts: Facts | None, head: Facts | None = WELL) -> list[Node]:
    silence = "no answer within 120 s, while it looked at the storage /data"
    nodes = [("10.0.0.1", head), ("10.0.0.2", facts), ("10.0.0.3", WELL)]
    return [Node(address, address, address == "10.0.0.1", found, silence) for address, found in nodes]


def test_nothing_is_found_on_nodes_that_are_well() -> None:
    assert not judge_nodes(make_nodes(WELL), REQUEST)


@pytest.mark.parametrize(("changes", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_fault_of_one_node_is_one_finding_with_its_remedy(changes: dict[str, Any], words: str) -> None:
    nodes = make_nodes(replace(WELL, **changes))
    findings = judge_nodes(nodes, REQUEST)
    assert [str(finding) for finding in findings] == [f"10.0.0.2: {words}"]
    assert choose_excluded(nodes, findings) == ["10.0.0.2"]


def test_a_node_that_is_silent_is_a_finding_that_says_what_it_did_last() -> None:
    assert [str(finding) for finding in judge_nodes(make_nodes(None), REQUEST)] == [
        "10.0.0.2: answer: no answer within 120 s, while it looked at the storage /data; see its log in Ray's temp "
        "folder there, and start Ray on it again"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": [Gpu("H200", 126 * GIB, 140 * GIB)]},
        {"shm_free": GIB // 2},
        {"open_files": 4096},
        {"open_files": -1},
        {"clock": 2.5, "clock_error": 0.6},
        {"temp_free": GIB},
        {"ray_gpus": 0.0, "gpus": []},
    ],
)
def test_what_reaches_its_limit_is_no_fault(changes: dict[str, Any]) -> None:
    assert not judge_nodes(make_nodes(replace(WELL, **changes)), REQUEST)


def test_all_nodes_are_judged_by_themselves_where_the_head_is_silent() -> None:
    nodes = make_nodes(replace(WELL, python="3.11.4", open_files=512), head=None)
    assert [(finding.addresses[0], finding.check) for finding in judge_nodes(nodes, REQUEST)] == [
        ("10.0.0.1", "answer"),
        ("10.0.0.2", "ulimit"),
    ]


@pytest.mark.parametrize(
    ("seen", "check"), [(Storage(is_folder=False), "is no folder"), (OTHER_STORAGE, "is not the one"), (None, None)]
)
def test_a_storage_that_the_head_cannot_write_is_a_fault_of_the_head_alone(
    seen: Storage | None, check: str | None
) -> None:
    head = replace(WELL, storage=Storage(True, "", False, "Permission denied for user 1000"))
    found = {f.addresses[0]: f.fault for f in judge_nodes(make_nodes(replace(WELL, storage=seen), head), REQUEST)}
    assert found.pop("10.0.0.1") == "/data cannot be written (Permission denied for user 1000)"
    assert list(found) == (["10.0.0.2"] if check == "is no folder" else [])


def test_a_package_that_the_head_lacks_is_no_difference_of_the_others() -> None:
    head = replace(WELL, packages={"torch": None, "ray": "2.60.0"})
    assert [str(finding) for finding in judge_nodes(make_nodes(WELL, head), REQUEST)] == [
        "10.0.0.1: packages: torch not installed; install there: pip install torch"
    ]


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (
            {},
            "open TCP 10002-19999 (DECRED_WORKER_PORTS) and 32768-60999 (net.ipv4.ip_local_port_range) between them in "
            "both directions, or name the interface that joins them as GLOO_SOCKET_IFNAME under `env` in the profile",
        ),
        (
            {"worker_ports": None, "backend": "nccl"},
            "open TCP all ports between them in both directions, or name the interface that joins them as "
            "NCCL_SOCKET_IFNAME under `env` in the profile",
        ),
    ],
)
def test_a_pair_that_cannot_connect_is_a_finding_with_nodes_interfaces_and_ports(
    changes: dict[str, Any], remedy: str
) -> None:
    pair = replace(PAIR, fault="10.0.0.1 does not reach port 10005 of 10.0.0.2 (timed out)", **changes)
    assert [str(finding) for finding in judge_pairs([PAIR, pair])] == [
        "10.0.0.1 - 10.0.0.2: network: 10.0.0.1 does not reach port 10005 of 10.0.0.2 (timed out), over the interfaces "
        f"eth0 and ib0; {remedy}"
    ]


def exclude(*broken: str, faulty: str = "") -> str:
    """The excluded of nodes a (the head), b, c and d, of which pairs are broken and some have faults of their own."""
    nodes = [Node(name, name, name == "a") for name in "abcd"]
    findings = [Finding((name,), "ulimit", "", "") for name in faulty]
    findings += [Finding((pair[0], pair[1]), "network", "", "") for pair in broken]
    return "".join(choose_excluded(nodes, findings))


def test_of_a_broken_pair_one_node_is_excluded_and_not_the_head() -> None:
    assert exclude("bc") == "c"
    assert exclude("da") == "d"
    assert exclude("ab") == "b"


def test_a_node_that_reaches_neither_neighbour_is_the_one_that_is_excluded() -> None:
    assert exclude("ab", "bc") == "b"
    assert exclude("ab", "bc", "cd") == "bc"
    assert exclude("da", "ab") == "a", "even if it is the head"


def test_a_pair_is_not_broken_any_more_when_one_of_it_is_excluded_for_another_fault() -> None:
    assert exclude("bc", faulty="b") == "b"
    assert exclude("bc", faulty="d") == "cd"
