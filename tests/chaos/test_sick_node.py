"""A node on which every training fails at once: the study ends whole, and one line names the node."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_training
from chaos.records import assert_records_agree
from chaos.sick_training import ERRORS, PLANTED, list_starts
from chaos.study_process import CommandProcess
from ray.cluster_utils import Cluster

from model.corpora.corpus import Corpus
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

pytestmark = pytest.mark.chaos
STUDY = Path("studies/probe")
RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
work = Work("chaos.sick_training:train", "stub_training:prepare")
sys.exit(run_study(Path("study.yaml"), address={address!r}, work=work))
"""
TRIALS = 5


def plant(cluster: Cluster, how: str) -> str:
    """Make one of the nodes sick; Ray's id of it."""
    sick: str = min(node.node_id for node in cluster.worker_nodes)
    Path(os.environ[PLANTED]).write_text(json.dumps({sick: how}))
    return sick


def run_study(cluster: Cluster, **environment: str) -> tuple[int, str]:
    """Run the study to its end: its exit code, and what it printed."""
    run = CommandProcess([sys.executable, "-u", "-c", RUN.format(address=cluster.address)], environment)
    try:
        return run.wait_for_end(), run.output
    finally:
        run.close()


def read_trials() -> list[TrialRecord]:
    return list(Ledger.open(STUDY).trials.values())


def starts(record: TrialRecord) -> list[str]:
    return list_starts(STUDY / "trials" / f"{record.number:04d}")


@pytest.mark.parametrize("how", ["raises", "has a full disk"])
def test_all_trials_of_a_study_complete_beside_a_sick_node_and_one_line_names_it(
    how: str, cluster: Cluster, corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    sick = plant(cluster, how)
    study_in(trials=TRIALS, early_stopping={"rule": "none"})
    code, printed = run_study(cluster, STUB_SECONDS="0.2")
    trials = read_trials()
    assert (code, [trial.state for trial in trials]) == (0, [TrialState.COMPLETE] * (TRIALS + 1)), printed
    (excluded,) = Ledger.open(STUDY).trials.excluded
    assert excluded.node_id == sick
    (line,) = [line for line in printed.splitlines() if "is excluded" in line]
    assert line.startswith(f"node {excluded.node} is excluded: trials 000")
    assert (
        f"failed there and got further on other nodes, the last one with {type(ERRORS[how]).__name__}: {ERRORS[how]}"
        in line
    )
    assert "Traceback" not in printed
    failed = [trial for trial in trials if sick in starts(trial)]
    assert len(failed) >= 2
    assert all(starts(trial).count(sick) == 1 for trial in failed), "a trial was placed on it again"
    assert all(trial.retries == 0 for trial in trials), "a retry elsewhere was counted"
    assert_records_agree(STUDY)


def test_a_group_whose_recipe_failed_on_a_sick_node_is_closed_and_its_trial_completes_on_others(
    cluster: Cluster, corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    """One group holds one of the nodes each, so the trial may have to wait until the other group is done."""
    sick = plant(cluster, "lacks the corpus")
    study_in(trials=3, early_stopping={"rule": "none"}, workers={"count": 2, "cpus": 1})
    code, printed = run_study(cluster, STUB_SECONDS="0.2")
    trials = read_trials()
    assert (code, [trial.state for trial in trials]) == (0, [TrialState.COMPLETE] * 4), printed
    failed = [trial for trial in trials if sick in starts(trial)]
    assert failed
    assert all(starts(trial).count(sick) <= 2 for trial in failed), "a trial was placed on it again"
    assert all(sick not in starts(trial)[-2:] for trial in trials)
    assert all(trial.retries == 0 for trial in trials)
    assert f"UserError: {ERRORS['lacks the corpus']} (node " in printed
    assert_records_agree(STUDY)


def test_a_recipe_that_fails_everywhere_is_tried_on_two_nodes_and_stops_the_study_as_ever(
    cluster: Cluster, corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    recipe: dict[str, Any] = {"base": "tiny", "set": {"training.seed": stub_training.RAISES}}
    study_in(recipe=recipe, trials=TRIALS, early_stopping={"rule": "none"}, workers={"concurrent_trials": 1})
    code, printed = run_study(cluster)
    trials = read_trials()
    assert (code, [trial.state for trial in trials]) == (1, [TrialState.FAILED] * 3), printed
    assert "3 trials in a row failed with ValueError: of two lines (failures.same_error_stops 3)" in printed
    assert [len(set(starts(trial))) for trial in trials] == [2, 2, 2]
    assert [len(starts(trial)) for trial in trials] == [2, 2, 2]
    assert not Ledger.open(STUDY).trials.excluded
    assert_records_agree(STUDY)


def test_a_study_whose_nodes_are_all_excluded_by_the_user_stops_in_one_line(
    cluster: Cluster, corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    """All nodes of this cluster have the name of this machine."""
    study_in(trials=1, early_stopping={"rule": "none"})
    code, printed = run_study(cluster, DECRED_EXCLUDED_NODES=f"nowhere, {socket.gethostname()}")
    assert code == 1, printed
    assert "stopped: only excluded nodes have room for a trial: " in printed
    assert read_trials() == []
