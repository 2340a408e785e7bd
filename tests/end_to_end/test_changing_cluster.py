"""Studies on clusters that change while they run: machines join and go, others use them, an autoscaler adds them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscaling import STORE_BYTES, start_autoscaling_cluster
from chaos.study_process import CommandProcess, StudyProcess, start_study, wait_until
from ray.cluster_utils import Cluster

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

pytestmark = pytest.mark.cluster
STUDY = Path("studies/probe")
LONG = {
    "base": "tiny",
    "set": {"training.epochs": 2000, "training.seed": 0},
}  # no test waits for the end of such trials
HOLD = """
import sys, time, ray
ray.init(address=sys.argv[1])
ray.get(ray.util.placement_group([{"CPU": 1}]).ready())
print("placed", flush=True)
time.sleep(1000)
"""

WriteStudy = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """These clusters have no token: an empty home folder."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STUB_SECONDS", "0.5")  # the environment of the workers is that of the cluster


@pytest.fixture
def cluster(_no_token: None, stub: Work) -> Iterator[Cluster]:
    """A head without CPUs, and nothing else."""
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add_machine(cluster: Cluster, cpus: int = 1) -> object:
    return cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)


def count_running() -> int:
    return len(Ledger.open(STUDY).trials.running)


def wait_for_running(count: int, run: StudyProcess) -> None:
    wait_until(lambda: count_running() == count, run, f"not {count} trials at the same time")


def count_epochs(numbers: list[int]) -> int:
    """The epochs of these trials together."""
    trials = Ledger.open(STUDY).trials
    return sum(trials[number].epoch for number in numbers if number in trials)


def stop(run: StudyProcess) -> None:
    """As Ctrl-C does."""
    run.process.send_signal(signal.SIGINT)
    assert run.wait_for_end() == 130, run.output
    assert "Traceback" not in run.output


def test_a_machine_that_joins_is_used_and_one_that_goes_leaves_fewer_trials_at_the_same_time(
    cluster: Cluster, study_in: WriteStudy
) -> None:
    first = add_machine(cluster)
    study_in(recipe=LONG, trials=3)
    with start_study(address=cluster.address) as run:
        run.wait_for_output("trial 0000 epoch 2/2000")
        assert count_running() == 1
        add_machine(cluster)
        wait_for_running(2, run)
        run.wait_for_output("trial 0001 epoch 2/2000")
        cluster.remove_node(first, allow_graceful=False)
        run.wait_for_output("trial 0000 interrupted: ")
        before, trained = count_epochs([1]), count_epochs([0, 2, 3])
        wait_until(lambda: count_epochs([1]) > before + 8, run, "the other trial does not go on")
        assert count_epochs([0, 2, 3]) == trained, "more trials train than there are machines"
        add_machine(cluster)
        wait_until(lambda: count_epochs([0, 2, 3]) > trained, run, "the new machine is not used")
        stop(run)


@pytest.mark.parametrize(("count", "needs"), [(1, "1 CPU on one node"), (2, "2 workers with 1 CPU each")])
def test_machines_that_others_use_are_left_to_them_and_used_when_they_are_free(
    count: int, needs: str, cluster: Cluster, study_in: WriteStudy
) -> None:
    add_machine(cluster, count)
    add_machine(cluster, count)
    study_in(recipe=LONG, trials=3, workers={"count": count, "cpus": 1})
    other = CommandProcess([sys.executable, "-c", HOLD, cluster.address])
    try:
        other.wait_for_output("placed")
        with start_study(address=cluster.address) as run:
            run.wait_for_output(f"waiting for {needs}; 1 of 2 nodes is used by others\n")
            run.wait_for_output("trial 0000 epoch 2/2000")
            assert count_running() == 1
            other.close()
            wait_for_running(2, run)
            run.wait_for_output("trial 0001 epoch 2/2000")
            run.wait_for_output("no longer waiting, after ")
            assert "interrupted" not in run.output, "workers waited for each other"
            assert run.output.count("waiting for ") == 1
            stop(run)
    finally:
        other.close()


def test_a_study_waits_for_a_machine_so_long_as_it_says_and_continues_when_there_is_one(
    cluster: Cluster, study_in: WriteStudy
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": 8, "training.seed": 0}}

    def write(wait_seconds: float | None) -> None:
        study_in(recipe=recipe, trials=1, workers={"count": 1, "cpus": 1, "wait_seconds": wait_seconds})

    write(None)
    with start_study(address=cluster.address) as run:
        assert run.wait_for_end() == 2
        assert "needs 1 CPU, this machine has 0 CPUs; lower workers.count or workers.cpus; or set " in run.output
    write(600.0)
    with start_study(address=cluster.address) as run:
        run.wait_for_output("waiting for 1 CPU on one node; the cluster has 1 node with 0 CPUs and 0 GPUs\n")
        stop(run)
    write(6.0)
    reason = "stopped: waited 6 s (workers.wait_seconds) for 1 CPU on one node; "
    with start_study(address=cluster.address) as run:
        assert run.wait_for_end() == 1, run.output
        remedy = "Correct it, then continue with: decred-study run study.yaml\n"
        assert f"{reason}the cluster has 1 node with 0 CPUs and 0 GPUs. {remedy}" in run.output
    assert not Ledger.open(STUDY).trials, "a trial was started that could only wait"
    node = add_machine(cluster)
    with start_study(address=cluster.address) as run:
        run.wait_for_output("trial 0000 epoch 2/8")
        cluster.remove_node(node, allow_graceful=False)
        assert run.wait_for_end() == 1, run.output
        assert reason in run.output  # Ray may not know yet that the machine is gone
    add_machine(cluster)
    with start_study(address=cluster.address) as run:
        assert run.wait_for_end() == 0, run.output
    trials = Ledger.open(STUDY).trials
    assert [trial.state for trial in trials.values()] == [TrialState.COMPLETE] * 2
    assert [report.epoch for report in trials[0].epochs] == list(range(1, 9))


@pytest.mark.parametrize("count", [1, 2])
def test_an_autoscaler_adds_the_machines_that_a_study_waits_for(count: int, stub: Work, study_in: WriteStudy) -> None:
    workers = {"count": count, "cpus": 1, "wait_seconds": 300, "concurrent_trials": 2}
    study_in(recipe={"base": "tiny", "set": {"training.epochs": 30, "training.seed": 0}}, trials=1, workers=workers)
    with (
        start_autoscaling_cluster(cpus=1, most_nodes=2 * count) as address,
        start_study(address=address) as run,
    ):
        assert run.wait_for_end() == 0, run.output
        assert "Traceback" not in run.output
    trials = Ledger.open(STUDY).trials
    assert [trial.state for trial in trials.values()] == [TrialState.COMPLETE] * 2
    assert {trial.metrics["ranks"] for trial in trials.values()} == {count}
    assert not any(trial.retries for trial in trials.values()), "workers waited for each other"
