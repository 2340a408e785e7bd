"""Preflight on a cluster of three hosts: faults that are really there, each on its node, and none after repair."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hosts import PRIVATE
from lab import Lab, make_lab, write_profile

from model.corpora.corpus import Corpus
from model.corpora.demo.build import make_demo

pytestmark = pytest.mark.cluster
HOSTS = {"head": "10.77.0.1", "one": "10.77.0.2", "two": "10.77.0.3"}
HEAD, ONE, TWO = HOSTS.values()
RING = [f"{HEAD} - {ONE}", f"{ONE} - {TWO}", f"{TWO} - {HEAD}"]
METADATA = "Metadata-Version: 2.1\nName: optuna\nVersion: 4.0.0\n"  # of a package that is there in no other way


@dataclass(frozen=True)
class Printed:
    """What preflight printed: the lines of nodes and pairs, those of findings, and the last one."""

    lines: list[str]
    findings: dict[tuple[str, str], str]
    last: str


@pytest.fixture(scope="module")
def lab(corpus: Corpus) -> Iterator[Lab]:
    with make_lab(corpus) as lab:
        lab.command("cluster", "up", "lab")
        yield lab


@pytest.fixture(scope="module")
def study(lab: Lab) -> str:
    return str(lab.write_study("probe"))


@pytest.fixture(autouse=True)
def _nothing_is_left(lab: Lab) -> Iterator[None]:
    yield
    assert not list(lab.storage.glob(".preflight-*"))
    assert not list(Path("/tmp").glob("decred-preflight-*"))
    for host in HOSTS:
        lab.wait_until(lambda host=host: not find_processes(lab, host, "^ray::(Observer|Member)"), f"the end on {host}")


def run_preflight(lab: Lab, *words: str, code: int) -> Printed:
    *lines, last = lab.command("preflight", *words, "--on", "lab", code=code).splitlines()
    found = [re.match(r"([\d.]+(?: - [\d.]+)?): ([a-z /]+): (.*)", line) for line in lines]
    findings = {(match[1], match[2]): match[3] for match in found if match}
    others = [line for line, match in zip(lines, found, strict=True) if not match]
    assert len(findings) == len(lines) - len(others), "each fault is one line"
    return Printed(others, findings, last)


def find_processes(lab: Lab, name: str, pattern: str) -> list[str]:
    """The ids, on the host, of its processes whose whole command line matches."""
    return lab.hosts[name].run("pgrep", "-f", pattern, check=False).stdout.split()


def send_signal(lab: Lab, number: signal.Signals, name: str, pattern: str) -> list[str]:
    """Send a signal to processes of a host, which have to be there; their ids."""
    processes = find_processes(lab, name, pattern)
    assert processes, f"nothing on {name} matches {pattern}"
    lab.hosts[name].run("kill", f"-{number:d}", *processes, check=False)  # the first ones may have ended others
    return processes


def stop_ray(lab: Lab, name: str) -> None:
    """kill -9 of a host's raylet and of what would start it again; the rest of its Ray ends by itself."""
    send_signal(lab, signal.SIGKILL, name, "raylet/raylet|ray start")
    lab.wait_until(lambda: not find_processes(lab, name, "/ray|ray::"), f"the end of Ray on {name}")


def restart(lab: Lab, *names: str, **prefixes: list[str]) -> None:
    """Start Ray again on some hosts, with words before those of its commands."""
    for name in names:
        stop_ray(lab, name)
    workers = [
        {
            "address": lab.hosts[name].address,
            "run": shlex.join([*lab.hosts[name].command, *prefixes.get(name, [])]),
            "cpus": 1,
        }
        for name in ("one", "two")
    ]
    write_profile(lab, workers=workers)
    lab.command("cluster", "up", "lab")


def test_a_healthy_cluster_has_a_line_for_each_node_and_pair_and_no_finding(lab: Lab, study: str) -> None:
    printed = run_preflight(lab, study, code=0)
    for line, (name, address) in zip(printed.lines, HOSTS.items(), strict=False):
        assert line.startswith(f"{address} {name}{' (head)' if name == 'head' else ''}: Python 3."), line
    for line, pair in zip(printed.lines[3:], RING, strict=True):
        assert re.fullmatch(rf"{pair}: gloo over net0, \d+ MB/s, an all-reduce in \d+ ms", line)
    assert printed.findings == {}
    assert printed.last == "no findings on 3 nodes and 3 pairs"


def test_missing_mounts_a_small_shm_a_full_disk_and_a_firewall_are_found_at_once(lab: Lab, study: str) -> None:
    one, two = lab.hosts["one"], lab.hosts["two"]
    one.hide(lab.storage)
    one.run("mount", "-o", "remount,size=900m", str(PRIVATE))
    two.hide(lab.folder / "corpora")
    two.run("mount", "-o", "remount,size=64m", "/dev/shm")
    one.run("ip", "route", "add", "blackhole", f"{TWO}/32")
    try:
        printed = run_preflight(lab, study, code=1)
    finally:
        one.run("umount", str(lab.storage))
        one.run("mount", "-o", "remount,size=8g", str(PRIVATE))
        two.run("umount", str(lab.folder / "corpora"))
        two.run("mount", "-o", "remount,size=8g", "/dev/shm")
        one.run("ip", "route", "del", "blackhole", f"{TWO}/32")
    found = printed.findings
    pair = f"{ONE} - {TWO}"
    expected = [(ONE, "temporary files"), (ONE, "storage"), (TWO, "/dev/shm"), (TWO, "corpus"), (pair, "network")]
    assert list(found) == expected
    assert (
        f"{lab.storage} is not the one that the head has (it is tmpfs none on {lab.storage}, on the head "
        in (found[ONE, "storage"])
    )
    assert found[ONE, "storage"].endswith("; mount the head's file system under this path")
    assert re.match(
        r"\d+ MiB free in /var/tmp/decred-lab/.*; free space there, or start", found[ONE, "temporary files"]
    )
    assert re.match(r"\d+ MiB of 64 MiB free, less than 512 MiB; mount a larger one", found[TWO, "/dev/shm"])
    assert found[TWO, "corpus"].startswith(f"{lab.folder}/corpora/demo: no such folder; mount the corpus there")
    assert re.match(
        rf"{ONE} does not reach port \d+ of {TWO} \(Invalid argument\); {TWO} does not reach port \d+ of {ONE} "
        r"\(timed out\), over the interfaces net0 and net0; open TCP \d+-\d+ \(DECRED_WORKER_PORTS\) and \d+-\d+ ",
        found[pair, "network"],
    )
    assert f"{pair}: gloo over net0 failed" in printed.lines
    assert sum(" MB/s, " in line for line in printed.lines) == 2, "the other pairs are measured all the same"
    assert printed.last == f"exclude: [{ONE}, {TWO}]"


def test_a_read_only_storage_a_copy_of_it_and_another_corpus_are_found(lab: Lab, study: str) -> None:
    one, two, storage = lab.hosts["one"], lab.hosts["two"], lab.storage
    other = make_demo(lab.folder / "other", train_utterances=20, dev_utterances=4, test_utterances=4)
    (storage / "note").write_text("what a study left")
    one.run("mount", "--bind", str(storage), str(storage))
    one.run("mount", "-o", "remount,ro,bind", str(storage))
    one.run("mount", "--bind", str(other.folder), str(lab.folder / "corpora" / "demo"))
    two.run("cp", "-a", str(storage), f"{PRIVATE}/copy")
    two.run("mount", "--bind", f"{PRIVATE}/copy", str(storage))
    try:
        printed = run_preflight(lab, study, code=1)
    finally:
        one.run("umount", str(storage))
        one.run("umount", str(lab.folder / "corpora" / "demo"))
        two.run("umount", str(storage))
    found = printed.findings
    assert list(found) == [(ONE, "storage"), (ONE, "corpus"), (TWO, "storage")]
    assert found[ONE, "storage"] == (
        f"{storage} cannot be written (Read-only file system for user 0); mount it for writing, and correct its "
        "permissions"
    )
    assert re.match(r"fingerprint (\w{12}), but fingerprint (?!\1)\w{12} on the head; mount", found[ONE, "corpus"])
    assert found[TWO, "storage"].startswith(f"{storage} is not the one that the head has (")
    assert "preflight" not in two.run("ls", "-A", f"{PRIVATE}/copy").stdout, "nothing is written into it"
    assert printed.last == f"exclude: [{ONE}, {TWO}]"


def test_few_open_files_and_another_version_of_a_package_are_found(lab: Lab) -> None:
    package = f"{PRIVATE}/other/optuna-4.0.0.dist-info"
    lab.hosts["two"].run("sh", "-c", f"mkdir -p {package} && printf '{METADATA}' > {package}/METADATA")
    limit = ["sh", "-c", 'ulimit -n 1024; exec "$@"', "sh"]
    restart(lab, "one", "two", one=limit, two=["env", f"PYTHONPATH={PRIVATE}/other"])
    printed = run_preflight(lab, code=1)
    found = printed.findings
    assert list(found) == [(ONE, "ulimit"), (TWO, "packages")]
    assert found[ONE, "ulimit"].startswith("a worker may open 1024 files, less than 4096; raise `ulimit -n`")
    assert re.fullmatch(
        r"optuna 4\.0\.0, but (\S+) on the head; install there what the head has: pip install optuna==\1",
        found[TWO, "packages"],
    )
    assert printed.last == f"exclude: [{ONE}, {TWO}]"


def test_after_the_repair_nothing_is_found_and_an_address_does_as_well_as_a_profile(lab: Lab) -> None:
    restart(lab, "one", "two")
    values: dict[str, Any] = {"corpus": str(lab.folder / "corpora" / "demo"), "storage": str(lab.storage)}
    study = lab.write_study("by-address", **values)
    token = lab.folder / "home" / ".config" / "decred-study" / "tokens" / "lab"
    lab.env["RAY_AUTH_TOKEN_PATH"] = str(token)
    try:
        address = re.search(r"http://\S+?:\d+", lab.command("cluster", "up", "lab"))
        assert address is not None
        report = json.loads(lab.command("preflight", str(study), "--address", address[0], "--json"))
    finally:
        del lab.env["RAY_AUTH_TOKEN_PATH"]
    assert report["findings"] == []
    assert report["exclude"] == []
    assert [node["facts"]["storage"]["is_seen"] for node in report["nodes"]] == [True] * 3
    assert len({node["facts"]["value"] for node in report["nodes"]}) == 1
    assert [" - ".join(pair["addresses"]) for pair in report["pairs"]] == RING


def test_an_excluded_node_is_not_looked_at_and_one_whose_ray_is_killed_is_named(lab: Lab, study: str) -> None:
    write_profile(lab, exclude=[ONE])
    lab.hosts["one"].hide(lab.storage)
    stop_ray(lab, "two")
    try:
        printed = run_preflight(lab, study, code=1)
    finally:
        lab.hosts["one"].run("umount", str(lab.storage))
        write_profile(lab)
    assert list(printed.findings) == [(TWO, "answer")]
    assert printed.findings[TWO, "answer"].endswith("start Ray on it again")
    assert f"{ONE}: excluded by the profile, not looked at" in printed.lines
    assert printed.last == f"exclude: [{ONE}, {TWO}]"
    lab.command("cluster", "up", "lab")


def test_a_node_that_hangs_is_named_and_the_others_are_reported(lab: Lab, study: str) -> None:
    output = lab.folder / "hanging.log"
    with lab.start("preflight", study, "--on", "lab", "--seconds", "60", output=output) as process:
        lab.wait_until(lambda: find_processes(lab, "two", "^ray::Observer"), "the look at two")
        stopped = send_signal(lab, signal.SIGSTOP, "two", "^ray::Observer")
        assert process.wait(300) == 1
    lab.hosts["two"].run("kill", f"-{signal.SIGKILL:d}", *stopped, check=False)  # which Ray itself may have done
    lines = output.read_text().splitlines()
    assert f"{TWO} two: no answer" in lines
    (finding,) = (line for line in lines if line.startswith(f"{TWO}: "))
    assert finding.startswith(f"{TWO}: answer: no answer within 60 s, ")
    assert f"{HEAD} - {ONE}: gloo over net0" in output.read_text()
    assert lines[-1] == f"exclude: [{TWO}]"
