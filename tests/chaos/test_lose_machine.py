"""kill -9 of a raylet: a machine of the cluster is gone while a trial trains on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_training
from chaos.epoch_order import assert_trained_once, read_events
from chaos.records import assert_records_agree
from chaos.study_process import psutil, start_study, wait_until
from ray.cluster_utils import Cluster

from model.corpora.corpus import Corpus
from study.ledger.event_log import EventLog
from study.ledger.events import TrialEpoch, TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

STUDY = Path("studies/probe")
TRAINS_AGAIN_WITHIN = 180.0  # seconds; see the figures in the test's output


@pytest.mark.chaos
def test_a_trial_whose_machine_is_gone_continues_from_its_checkpoint_on_another(
    cluster: Cluster, corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": 30, "training.seed": stub_training.SUCCEEDS}}
    study_in(recipe=recipe, trials=0, workers={"count": 2, "cpus": 1, "concurrent_trials": 1})
    with start_study(seconds=0.5, address=cluster.address) as run:
        run.wait_for_output("epoch 3/30")
        node = _find_training_node(cluster)
        killed = time.time()
        cluster.remove_node(node, allow_graceful=False)
        (lost,) = wait_until(lambda: read_events(STUDY, TrialRetried), run, "the lost machine was not noticed")
        again = wait_until(lambda: _find_epoch_after(lost), run, "training did not continue")
        print(f"machine lost: noticed after {lost.time - killed:.1f} s, training {again - killed:.1f} s after it")
        assert again - killed < TRAINS_AGAIN_WITHIN
        assert run.wait_for_end() == 0, run.output
        assert "Traceback" not in run.output
    trial = Ledger.open(STUDY).trials[0]
    assert trial.state is TrialState.COMPLETE, trial.reason
    assert [report.epoch for report in trial.epochs] == list(range(1, 31))
    assert (trial.retries, trial.metrics["ranks"]) == (1, 2)
    assert "of 2 was lost" in lost.reason
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


def _find_training_node(cluster: Cluster) -> Any:
    """The machine whose raylet has started workers of Ray Train."""
    for node in cluster.worker_nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        if any("RayTrainWorker" in " ".join(child.cmdline()) for child in raylet.children()):
            return node
    raise AssertionError("no machine has a worker")


def _find_epoch_after(lost: TrialRetried) -> float | None:
    """When the first epoch after the loss was recorded, in Unix seconds."""
    return next((event.time for event in read_events(STUDY, TrialEpoch) if event.time > lost.time), None)
