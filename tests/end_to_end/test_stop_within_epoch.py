"""SIGTERM to a study while its trial is within an epoch, as Slurm sends it some seconds before the end of a job."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.slow_training import read_steps
from chaos.study_process import CommandProcess, send_stop_signal, wait_until

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

STUDY = Path("studies/probe")
TRIAL = STUDY / "trials" / "0000"
RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
work = Work("chaos.slow_training:train", "model.training.prepare:prepare")
sys.exit(run_study(Path("study.yaml"), work=work))
"""
VALUES = {"training.epochs": 1, "data.batch_seconds": 5.0, "tokenizer.vocabulary": 40, "decoding_search.share": 0.0}


def start() -> CommandProcess:
    return CommandProcess([sys.executable, "-u", "-c", RUN])


@pytest.mark.slow
def test_sigterm_within_an_epoch_leaves_a_checkpoint_there_and_the_same_command_takes_no_step_twice(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    study_in(recipe={"base": "tiny", "set": VALUES}, trials=0)
    run = start()
    try:
        wait_until(lambda: len(read_steps(TRIAL)) >= 3, run, "it did not train")
        send_stop_signal(run, signal.SIGTERM)
        assert run.wait_for_end(60) == 130, run.output
    finally:
        run.close()
    (checkpoint,) = (TRIAL / "checkpoints").iterdir()
    assert checkpoint.name == f"epoch-0000-step-{read_steps(TRIAL)[-1][2]:08d}"
    assert Ledger.open(STUDY).trials[0].state is TrialState.INTERRUPTED
    run = start()
    try:
        assert run.wait_for_end() == 0, run.output
    finally:
        run.close()
    steps = [(epoch, step) for _, epoch, step in read_steps(TRIAL)]
    assert steps == sorted(set(steps))
    assert Ledger.open(STUDY).trials[0].state is TrialState.COMPLETE
