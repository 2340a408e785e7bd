"""A trial has failed on one node while another tenant holds the only other one: the study goes on without it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from chaos.records import assert_records_agree
from chaos.sick_for_one import FIRST
from chaos.sick_training import PLANTED, list_starts
from chaos.study_process import PATIENCE, CommandProcess
from ray.cluster_utils import Cluster

from model.corpora.corpus import Corpus
from model.errors import UserError
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.workers.placement import NODE_ID

pytestmark = pytest.mark.chaos
STUDY = Path("studies/probe")
CPUS = 2  # of a node, and of a trial
RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
work = Work("chaos.sick_for_one:train", "stub_training:prepare")
sys.exit(run_study(Path("study.yaml"), address={address!r}, work=work))
"""


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[Callable[[str], Any]]:
    """Holds all of a node, given by Ray's id of it, in a job of its own."""
    cluster.connect()

    def hold(node_id: str) -> Any:
        group = ray.util.placement_group([{"CPU": CPUS}], bundle_label_selector=[{NODE_ID: node_id}])
        assert group.wait(PATIENCE)
        return group

    yield hold
    ray.shutdown()


def read_trials() -> list[TrialRecord]:
    with contextlib.suppress(UserError):  # it has not begun
        return list(Ledger.open(STUDY).trials.values())
    return []


def test_others_run_where_a_trial_failed_until_the_other_node_has_room_for_it(
    cluster: Cluster, tenant: Callable[[str], Any], corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    sick, used = sorted(node.node_id for node in cluster.worker_nodes)
    Path(os.environ[PLANTED]).write_text(json.dumps({sick: "raises"}))
    held = tenant(used)
    study_in(trials=3, early_stopping={"rule": "none"}, workers={"count": 1, "cpus": CPUS})
    run = CommandProcess([sys.executable, "-u", "-c", RUN.format(address=cluster.address)])
    try:
        deadline = time.monotonic() + PATIENCE
        while len(trials := read_trials()) < 4 or any(one.state is not TrialState.COMPLETE for one in trials[1:]):
            assert time.monotonic() < deadline, run.output
            time.sleep(0.2)
        first = trials[0]
        assert (first.state, first.retries) == (TrialState.INTERRUPTED, 0), run.output
        ray.util.remove_placement_group(held)
        assert run.wait_for_end() == 0, run.output
    finally:
        run.close()
    trials = read_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert list_starts(STUDY / "trials" / FIRST) == [sick, used]
    assert_records_agree(STUDY)
