"""kill -9 of a raylet: a machine of the cluster is gone in mid-trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stub_training
from chaos.driven import driven, events, psutil, until, went_on
from chaos.records import assert_records_agree
from ray.cluster_utils import Cluster

from model.data.corpus import Corpus
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

STUDY = Path("studies/probe")
STORE_BYTES = 80 * 1024**2
TRAINING_AGAIN_WITHIN = 180.0  # seconds; see the figures in the test's output


@pytest.fixture
def cluster(stub: Work) -> Iterator[Cluster]:
    """A head without CPUs and two machines with two each, so that all workers are on these."""
    made = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    try:
        for _ in range(2):
            made.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


@pytest.mark.chaos
def test_a_trial_whose_machine_is_gone_goes_on_from_its_checkpoint_on_another(
    cluster: Cluster, corpus: Corpus, study_in: Callable[..., Path]
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": 30, "training.seed": stub_training.SUCCEEDS}}
    study_in(recipe=recipe, trials=0, workers={"count": 2, "cpus": 1, "concurrent_trials": 1})
    with driven(seconds=0.5, address=cluster.address) as run:
        run.waits_for("epoch 3/30")
        node = _that_works(cluster)
        killed = time.time()
        cluster.remove_node(node, allow_graceful=False)
        (lost,) = until(lambda: events(STUDY, "trial_retried"), run, "the lost machine was not noticed")
        again = until(lambda: _epoch_after(lost), run, "training did not go on")
        print(f"machine lost: noticed after {lost['time'] - killed:.1f} s, training {again - killed:.1f} s after it")
        assert again - killed < TRAINING_AGAIN_WITHIN
        assert run.ends() == 0, run.said
        assert "Traceback" not in run.said
    trial = Ledger.open(STUDY).trials[0]
    assert trial.state is TrialState.COMPLETE, trial.reason
    assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, 31))
    assert went_on([event["epoch"] for event in events(STUDY, "trial_epoch")]), "it began again instead of going on"
    assert (trial.retries, trial.metrics["ranks"]) == (1, 2)
    assert "of 2 was lost" in lost["reason"]
    assert_records_agree(STUDY)


def _that_works(cluster: Cluster) -> Any:
    """The machine whose raylet has started workers of Ray Train."""
    for node in cluster.worker_nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        if any("RayTrainWorker" in " ".join(child.cmdline()) for child in raylet.children()):
            return node
    raise AssertionError("no machine has a worker")


def _epoch_after(lost: dict[str, Any]) -> float | None:
    return next((event["time"] for event in events(STUDY, "trial_epoch") if event["time"] > lost["time"]), None)
