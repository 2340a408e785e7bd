"""Faults of machines and of the network between them, on a cluster of three hosts; `make cluster-test`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from lab import RAYLET, Lab, make_lab, write_profile

from model.corpora.corpus import Corpus
from study.ledger.event_log import EventLog
from study.ledger.events import TrialEpoch, TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
EPOCHS = 40  # of every trial: half a minute on two free cores
CUT_SECONDS = 60.0
LIMIT = 600.0  # seconds for a study to end; and beyond any measured time
KILLS = 3
OTHER_PYTHON = Path("/usr/bin/python3.11")
WORKERS = "^ray::RayTrainWorker"


@pytest.fixture(scope="module")
def lab(corpus: Corpus) -> Iterator[Lab]:
    with make_lab(corpus) as lab:
        lab.command("cluster", "up", "lab")
        yield lab
        lab.command("cluster", "down", "lab")


@pytest.fixture(scope="module")
def whole(lab: Lab) -> Ledger:
    """A study that nothing disturbed."""
    lab.command("submit", str(lab.write_study("whole", epochs=EPOCHS)), "--on", "lab", "--wait", seconds=LIMIT)
    return Ledger.open(lab.storage / "whole")


def read_retries(lab: Lab, name: str) -> list[TrialRetried]:
    return [event for event in EventLog(lab.storage / name).read() if isinstance(event, TrialRetried)]


def find_epoch_after(lab: Lab, name: str, lost: TrialRetried) -> float | None:
    """When a trial reported an epoch again, in Unix seconds: another one may go first."""
    events = EventLog(lab.storage / name).read()
    return next((event.time for event in events if isinstance(event, TrialEpoch) and event.time > lost.time), None)


def test_a_link_that_is_cut_for_a_minute_loses_no_epoch_and_doubles_none(lab: Lab, whole: Ledger) -> None:
    """Ray's head gives up a node that does not answer for about a minute: the host's Ray ends, and is started again."""
    lab.command("submit", str(lab.write_study("cut", epochs=EPOCHS)), "--on", "lab")
    lab.wait_for_epoch("cut", 2)
    lab.hosts["one"].set_link("down")
    try:
        time.sleep(CUT_SECONDS)
        assert TrialState.COMPLETE not in [trial.state for trial in lab.read_trials("cut")], "the cut came too late"
    finally:
        lab.hosts["one"].set_link("up")
    lab.command("attach", "cut", "--on", "lab", seconds=LIMIT)
    lab.assert_same_trials("cut", whole)
    print(f"a cut of {CUT_SECONDS:g} s: {[event.reason for event in read_retries(lab, 'cut')] or 'nothing was lost'}")
    assert "10.77.0.2: running" in lab.command("cluster", "status", "lab")


def test_a_raylet_that_is_killed_with_its_workers_is_noticed_started_again_and_trained_on(
    lab: Lab, whole: Ledger
) -> None:
    lab.command("submit", str(lab.write_study("killed-raylet", epochs=EPOCHS)), "--on", "lab")
    noticed, recovered, loads = [], [], []
    for count in range(KILLS):
        lab.wait_for_epoch("killed-raylet", 2 + count)
        killed = time.time()
        lab.kill("one", f"{RAYLET}|{WORKERS}")
        lab.wait_until(lambda count=count: len(read_retries(lab, "killed-raylet")) > count, "a retry")
        lost = read_retries(lab, "killed-raylet")[count]
        lab.wait_until(lambda lost=lost: find_epoch_after(lab, "killed-raylet", lost), "an epoch after it", LIMIT)
        again = find_epoch_after(lab, "killed-raylet", lost)
        assert again is not None
        noticed.append(lost.time - killed)
        recovered.append(again - killed)
        loads.append(os.getloadavg()[0])
    rows = zip(noticed, recovered, loads, strict=True)
    print(
        "\n".join(
            f"noticed after {one:.1f} s, trained on after {two:.1f} s, load {load:.1f}" for one, two, load in rows
        )
    )
    print(f"median: {median(noticed):.1f} s and {median(recovered):.1f} s")
    lab.command("attach", "killed-raylet", "--on", "lab", seconds=LIMIT)
    lab.assert_same_trials("killed-raylet", whole)


@pytest.fixture
def other_python(lab: Lab) -> Iterator[str]:
    """The version of another Python that host `two` has in the environment's place; its Ray is down."""
    if not OTHER_PYTHON.exists():
        pytest.skip(f"NOT TESTED: no other Python of this minor version in {OTHER_PYTHON}")
    two, settings = lab.hosts["two"], lab.folder / "pyvenv.cfg"
    version = two.run(str(OTHER_PYTHON), "-c", "import platform; print(platform.python_version())").stdout.strip()
    settings.write_text(f"home = {OTHER_PYTHON.parent}\ninclude-system-site-packages = false\nversion = {version}\n")
    lab.command("cluster", "down", "lab")
    mounts = {OTHER_PYTHON: Path(sys.executable).resolve(), settings: Path(sys.prefix) / "pyvenv.cfg"}
    for source, target in mounts.items():
        two.run("mount", "--bind", str(source), str(target))
    try:
        yield version
    finally:
        lab.command("cluster", "down", "lab")
        for target in mounts.values():
            two.run("umount", "--lazy", str(target))  # the processes that end may still have it open
        write_profile(lab)
        lab.command("cluster", "up", "lab")


def test_a_host_with_another_python_is_named_before_anything_trains(lab: Lab, other_python: str) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    printed = lab.command("cluster", "up", "lab", code=2)
    assert printed.splitlines()[-1] == (
        f"error: machine 10.77.0.3: {sys.executable} has Python {other_python}, but {version} on the head; "
        f"install Python {version} there, since all of a Ray cluster need the same to the patch"
    )
    printed = lab.command("preflight", "--on", "lab", code=1)
    assert "10.77.0.3: answer: no Ray runs there, or it has not joined the head" in printed
    assert printed.splitlines()[-1] == "exclude: [10.77.0.3]"
    write_profile(lab, env={"RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor"})  # the user lets it join
    lab.command("cluster", "down", "lab")
    lab.command("cluster", "up", "lab")
    printed = lab.command("preflight", "--on", "lab", code=1)
    assert (
        f"10.77.0.3: python: Python {other_python}, but {version} on the head; start Ray there with Python {version}"
        in printed
    )
    assert printed.splitlines()[-1] == "exclude: [10.77.0.3]"
