"""Studies to plant faults in, run by the real command line with a stand-in for training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chaos.fault_results import SEEDS, read_results, summarise
from chaos.faults import Disk, small_disk
from chaos.sick_training import PLANTED
from ray.cluster_utils import Cluster

from study import runner
from study.cli import main as cli
from study.runner import Work

STORE_BYTES = 80 * 1024**2  # of each node's objects, the least that Ray takes


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def plain_study(study_in: Callable[..., Path]) -> Callable[..., Path]:
    """Write a study file into an empty current folder: one worker, four epochs, no baseline, nothing stops early."""

    def write(values: dict[str, Any] | None = None, **changes: Any) -> Path:
        plain: dict[str, Any] = {
            "recipe": {"base": "tiny", "set": {"training.epochs": 4, "training.seed": 0} | (values or {})},
            "trials": 2,
            "baselines": [],
            "early_stopping": {"rule": "none"},
            "workers": {"count": 1, "cpus": 1, "concurrent_trials": 1},
        }
        return study_in(**plain | changes)

    return write


@pytest.fixture
def decred_study(
    stub: Work, ray_here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """The command `decred-study`, in this process and on the tests' Ray, with other work than training."""

    def command(*arguments: object, work: Work = stub) -> CommandResult:
        monkeypatch.setattr(runner, "Work", lambda: work)
        monkeypatch.setattr(sys, "argv", ["decred-study", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return CommandResult(0 if code is None else int(code), printed.out, printed.err)

    return command


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A tmpfs of 4 MB, beside the study."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        yield disk


@pytest.fixture
def cluster(stub: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs and two nodes with two each, so that all workers are on these; both are healthy."""
    # A token in the real home folder would be asked for, also by what an earlier Ray of this process has set.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # The nodes have the environment of now: a test can only write into the file what it makes of them.
    monkeypatch.setenv(PLANTED, str(tmp_path / "sick.json"))
    (tmp_path / "sick.json").write_text("{}")
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What became of all seeds of random faults, once, also where several processes ran them."""
    if SEEDS in os.environ and (results := read_results()):
        terminalreporter.section("random faults")
        for line in summarise(results):
            terminalreporter.line(line)
