"""The shortest life of a study on a cluster of three hosts: submitted, left alone, looked at, stopped, taken down."""

from __future__ import annotations

import pytest
from lab import make_lab

from model.corpora.corpus import Corpus
from study.ledger.records import TrialState

pytestmark = pytest.mark.slow  # and not `cluster`: the one test of whole hosts that continuous integration runs


def test_a_study_is_submitted_left_alone_looked_at_and_stopped_and_nothing_is_left(corpus: Corpus) -> None:
    with make_lab(corpus) as lab:
        lab.command("cluster", "up", "lab")
        study = str(lab.write_study("short", epochs=500, workers={"count": 2}))
        with lab.start("submit", study, "--on", "lab", "--wait", output=lab.folder / "submit.log") as process:
            lab.wait_for_epoch("short", 1)
            process.kill()  # the laptop is closed
        assert "0000" in lab.command("status", "short", "--on", "lab")
        printed = lab.command("stop", "short", "--on", "lab")
        assert "continue it with: decred-study resume short --on lab" in printed
        (trial,) = lab.read_trials("short")
        assert trial.state is TrialState.INTERRUPTED
        assert [report.epoch for report in trial.epochs] == list(range(1, trial.epoch + 1))
        lab.command("cluster", "down", "lab")
        for host in ("head", "one", "two"):
            lab.wait_until(lambda host=host: not lab.find_processes(host, "ray"), f"the end of Ray on {host}")
