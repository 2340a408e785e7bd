"""A cluster of hosts of which one does not see the shared folder, or is excluded by its user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, make_lab, write_profile

from model.corpora.corpus import Corpus
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

pytestmark = pytest.mark.cluster
SICK, ADDRESS = "one", "10.77.0.2"


@pytest.fixture(scope="module")
def lab(corpus: Corpus) -> Iterator[Lab]:
    with make_lab(corpus) as lab:
        lab.command("cluster", "up", "lab")
        yield lab
        lab.command("cluster", "down", "lab")


def list_nodes(lab: Lab, name: str) -> set[str | None]:
    """The hosts that have reported an epoch of the study."""
    return {report.node for trial in lab.read_trials(name) for report in trial.epochs}


def test_no_trial_runs_on_a_host_that_the_profile_excludes(lab: Lab) -> None:
    write_profile(lab, env={"DECRED_EXCLUDED_NODES": ADDRESS})
    try:
        lab.command("submit", str(lab.write_study("chosen", workers={"count": 1})), "--on", "lab", "--wait")
    finally:
        write_profile(lab)
    assert [trial.state for trial in lab.read_trials("chosen")] == [TrialState.COMPLETE] * 2
    assert list_nodes(lab, "chosen") == {"two"}


def test_a_host_without_the_shared_folder_is_excluded_in_one_line_and_no_trial_is_lost(lab: Lab) -> None:
    lab.hosts[SICK].hide(lab.storage)
    study = lab.write_study("unmounted", trials=3, workers={"count": 1})
    lab.command("submit", str(study), "--on", "lab", "--wait")
    trials = lab.read_trials("unmounted")
    assert [(trial.state, trial.retries) for trial in trials] == [(TrialState.COMPLETE, 0)] * 4
    assert list_nodes(lab, "unmounted") == {"two"}
    (excluded,) = Ledger.open(lab.storage / "unmounted").trials.excluded
    folder = lab.storage / "unmounted"
    expected = f"it does not see the study's folder {folder} (No such file or directory): mount it there"
    assert (excluded.node, excluded.reason) == (f"{SICK} ({ADDRESS})", expected)
    printed = lab.command("logs", "unmounted", "--on", "lab")
    (line,) = [line for line in printed.splitlines() if "is excluded" in line]
    assert line.startswith(f"node {SICK} ({ADDRESS}) is excluded: {expected}. Sessions keep away from it for a day, ")
    left = lab.hosts[SICK].run("find", str(lab.storage), "-type", "f").stdout.split()
    assert left == [], "something was written to the disk of a host that lacks the mount"


def test_a_group_that_needs_that_host_stops_the_study_in_one_line_and_its_trial_does_not_fail(lab: Lab) -> None:
    """The host still lacks the folder, and workers of one CPU each need both hosts."""
    printed = lab.command("submit", str(lab.write_study("spanning")), "--on", "lab", "--wait", code=1)
    folder = lab.storage / "spanning"
    expected = (
        f"stopped: node {SICK} does not see the study's folder {folder} (No such file or directory): mount it there"
    )
    assert expected in printed
    assert [trial.state for trial in lab.read_trials("spanning")] == [TrialState.INTERRUPTED]
