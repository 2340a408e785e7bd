"""A driver does not respond for so long that another one takes its study over, and then it runs again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.epoch_order import assert_trained_once
from chaos.records import assert_records_agree
from chaos.study_process import start_study
from stub_training import SUCCEEDS

from study.ledger.event_lines import from_line
from study.ledger.event_log import EventLog
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

STUDY = Path("studies/probe")
HOST = "another-machine"
EPOCHS = 60


@pytest.mark.chaos
def test_a_driver_that_was_frozen_and_replaced_writes_nothing_that_counts_and_ends_with_one_line(
    stub: Work, study_in: Callable[..., Path]
) -> None:
    recipe = {"base": "tiny", "set": {"training.epochs": EPOCHS, "training.seed": SUCCEEDS}}
    study_in(recipe=recipe, trials=1, early_stopping={"rule": "none"})
    with start_study(seconds=0.3) as frozen:
        frozen.wait_for_output("epoch 5/60")
        os.kill(frozen.process.pid, signal.SIGSTOP)
        before, printed = EventLog(STUDY).read(), frozen.output
        with start_study(seconds=0.3, host=HOST) as successor:
            successor.wait_for_output("epoch 15/60")  # waits for LEASE_SECONDS before it takes the study over
            waits = f"waiting up to 20 s to see whether process {frozen.process.pid} on"
            assert successor.output.count(waits) == 1, successor.output
            os.kill(frozen.process.pid, signal.SIGCONT)
            assert frozen.wait_for_end() == 2, frozen.output
            assert successor.process.poll() is None, "the frozen driver outlived its successor"
            lines = frozen.output.removeprefix(printed).splitlines()
            assert len(lines) == 1, frozen.output
            assert lines[0].startswith("error: the study in ")
            taken = f"was taken over by process {successor.process.pid} on {HOST} while this process did not respond"
            assert taken in lines[0]
            assert successor.wait_for_end() == 0, successor.output
    ledger = Ledger.open(STUDY)
    events = ledger.log.read()
    of_successor = [from_line(line) for line in ledger.log.files()[-1].read_bytes().splitlines()]
    assert len(ledger.log.files()) == 2
    assert events == before + of_successor
    assert [(record.state, record.epoch) for record in ledger.trials.values()] == [(TrialState.COMPLETE, EPOCHS)] * 2
    assert_trained_once(events)
    assert_records_agree(STUDY)
