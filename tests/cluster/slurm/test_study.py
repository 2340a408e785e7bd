"""A study in a real Slurm: warned before its time is up, it records its trial, and the requeued job continues it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_head import wait_until

from cluster.slurm.commands import find_cluster, requeue, submit
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import log_file, make_script
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

SECONDS = 240.0  # that any step may take
RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
work = Work("stub_training:train", "stub_training:prepare")
sys.exit(run_study(Path(sys.argv[1]), address=sys.argv[2], work=work))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_requeued_study_continues_its_trial_where_it_stopped(
    slurm: Any,
    profile: SlurmProfile,
    stub: Work,
    study_in: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.env[name])
    path = study_in(recipe={"base": "tiny", "set": {"training.epochs": 6}}, trials=0)
    packages = os.pathsep.join([str(Path(__file__).parents[3]), os.environ["PYTHONPATH"]])
    env = {"PYTHONPATH": packages, "STUB_SECONDS": "1"}
    script = make_script(
        profile.model_copy(update={"env": env}), "probe", [sys.executable, "-c", RUN, str(path), "{head}"]
    )
    job = submit(profile, script)
    log = Path(log_file(profile, "probe", job))

    def has_written(words: str) -> bool:
        return log.exists() and words in log.read_text()

    assert wait_until(lambda: has_written("epoch 2/6"), SECONDS), log.read_text()
    requeue(profile, job)
    assert wait_until(lambda: has_written("node1: requeued; Slurm"), SECONDS), log.read_text()
    assert "exit code 130" in log.read_text()
    ledger = Ledger.open(tmp_path / "studies" / "probe")
    assert ledger.trials[0].state is TrialState.INTERRUPTED
    slurm.start_at_once(job)
    assert slurm.exit_code(job) == 0, log.read_text()
    before, after = log.read_text().split("restart 1,")
    assert "trial 0000 continues" in after
    assert "epoch 1/6" in before
    assert "epoch 1/6" not in after, "it started again instead of continuing"
    trials = Ledger.open(ledger.folder).trials
    assert [trial.state for trial in trials.values()] == [TrialState.COMPLETE]
    assert [report.epoch for report in trials[0].epochs] == [1, 2, 3, 4, 5, 6]
    assert find_cluster(profile, "probe") is None
