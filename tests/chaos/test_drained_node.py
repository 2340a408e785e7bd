"""A node that Ray drains, as it does with preempted machines: its trial leaves with a checkpoint before it is taken."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stub_training
from chaos.epoch_order import assert_trained_once, read_events
from chaos.records import assert_records_agree
from chaos.slow_training import read_steps
from chaos.study_process import CommandProcess, psutil, start_study, wait_until
from ray.cluster_utils import Cluster
from training_runs import without_clock

from model.training.loop import train
from study.execution.session_events import without_facts
from study.ledger.event_log import EventLog
from study.ledger.events import TrialMoved, TrialRetried
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

pytestmark = pytest.mark.chaos
STUDY = Path("studies/probe")
TRIAL = STUDY / "trials" / "0000"
RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
work = Work("chaos.slow_training:train", "model.training.prepare:prepare")
sys.exit(run_study(Path("study.yaml"), address={address!r}, work=work))
"""
VALUES = {
    "training.epochs": 2,
    "data.batch_seconds": 5.0,
    "data.buckets": 2,
    "tokenizer.vocabulary": 40,
    "encoder.layers": 1,
    "encoder.width": 16,
    "encoder.feed_forward": 16,
    "encoder.cgmlp": 16,
    "decoder.layers": 2,
    "decoder.width": 16,
    "decoder.feed_forward": 16,
    "decoding_search.share": 0.0,
}


@contextlib.contextmanager
def start_slow_study(address: str) -> Iterator[CommandProcess]:
    run = CommandProcess([sys.executable, "-u", "-c", RUN.format(address=address)])
    try:
        yield run
    finally:
        run.close()


def drain(cluster: Cluster, node_id: str, seconds: int) -> None:
    """Announce that a node will be taken, as a provider's agent does."""
    options = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    options += ["--deadline-remaining-seconds", str(seconds), "--node-id", node_id, "--address", cluster.address]
    ray = Path(sys.executable).with_name("ray")
    done = subprocess.run([ray, "drain-node", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def find_node(cluster: Cluster, node_id: str) -> Any:
    return next(node for node in cluster.worker_nodes if node.node_id == node_id)


@pytest.mark.parametrize("count", [1, 2])
def test_a_trial_leaves_a_drained_node_within_an_epoch_and_takes_no_step_twice(
    count: int, cluster: Cluster, study_in: Callable[..., Path], tmp_path: Path
) -> None:
    study_in(
        recipe={"base": "tiny", "set": VALUES},
        trials=0,
        workers={"count": count, "cpus": 1, "concurrent_trials": 1},
    )
    with start_slow_study(cluster.address) as run:
        wait_until(lambda: len(read_steps(TRIAL)) >= 3, run, "it did not train")
        drained = read_steps(TRIAL)[0][0]
        drain(cluster, drained, 300)
        (moved,) = wait_until(lambda: read_events(STUDY, TrialMoved), run, "it did not leave the drained node")
        raylet = find_node(cluster, drained).all_processes["raylet"][0].process
        wait_until(lambda: raylet.poll() is not None, run, "something is left on the node, which Ray does not end")
        assert run.wait_for_end() == 0, run.output
        assert "Traceback" not in run.output
    steps = read_steps(TRIAL)
    last = [(epoch, step) for node, epoch, step in steps if node == drained][-1]
    assert [(epoch, step) for _, epoch, step in steps] == sorted({(epoch, step) for _, epoch, step in steps})
    assert steps[-1][0] != drained
    assert last[0] == 1, "it was drained in its first epoch"
    assert moved.node_id == drained
    announced, _, left = moved.reason.partition("; ")
    assert re.fullmatch(r"Ray drains its node, which is taken in (29\d|300) s", announced)
    assert left == f"the trial left it after step {last[1]} of epoch 1, and continues on another one"
    assert f"trial 0000 interrupted: {moved.reason}" in run.output
    ledger = Ledger.open(STUDY)
    trial = ledger.trials[0]
    assert (trial.state, trial.retries, trial.lost_seconds) == (TrialState.COMPLETE, 0, 0.0), trial.reason
    assert read_events(STUDY, TrialRetried) == []
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)
    if count == 1:
        whole: list[dict[str, float]] = []
        train(ledger.read_recipe(trial), tmp_path / "whole", whole.append)
        expected = [without_clock(without_facts(metrics)) for metrics in whole[:2]]
        assert [without_clock(report.metrics) for report in trial.epochs] == expected


@pytest.fixture
def long_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of the stub takes this long on clusters that start from here on."""
    monkeypatch.setenv("STUB_SECONDS", "8")


def test_a_node_that_is_taken_before_its_trial_can_leave_is_a_lost_one(
    long_epochs: None, cluster: Cluster, study_in: Callable[..., Path]
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": 3, "training.seed": stub_training.SUCCEEDS}}
    study_in(recipe=recipe, trials=0, workers={"count": 2, "cpus": 1, "concurrent_trials": 1})
    with start_study(address=cluster.address) as run:
        run.wait_for_output("epoch 1/3")
        nodes = {node.node_id: node for node in cluster.worker_nodes if has_workers(node)}
        (taken,) = nodes
        drain(cluster, taken, 3)
        cluster.remove_node(nodes[taken], allow_graceful=False)
        (lost,) = wait_until(lambda: read_events(STUDY, TrialRetried), run, "the lost node was not noticed")
        assert run.wait_for_end() == 0, run.output
    assert (lost.count, lost.setting) == (1, "failures.retries 5")
    assert read_events(STUDY, TrialMoved) == []
    assert Ledger.open(STUDY).trials[0].state is TrialState.COMPLETE


def has_workers(node: Any) -> bool:
    """Whether workers of Ray Train run on it."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return any("RayTrainWorker" in " ".join(child.cmdline()) for child in raylet.children())
