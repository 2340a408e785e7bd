"""kill -9 of the processes of Ray's that a study has started for itself and cannot work without."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.epoch_order import assert_trained_once, read_events
from chaos.records import assert_records_agree
from chaos.session_output import assert_nothing_runs
from chaos.study_process import RUN, CommandProcess, start_study, wait_until

from study.ledger.event_log import EventLog
from study.ledger.events import StudyInterrupted, TrialEpoch
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

STUDY = Path("studies/probe")
# In the main thread nothing looks whether Ray still works, as where that waits for an answer in Ray's own code.
WAITS = """
from cluster import embedded
from study.execution import tune_callbacks
embedded.END_SECONDS = 5.0
tune_callbacks.StopAll.stop_all = lambda self: False
"""
SOON = 45.0  # seconds: Ray itself ends the process after a minute, without a word on how to continue


@pytest.mark.chaos
@pytest.mark.parametrize(("name", "part"), [("gcs_server", "/gcs/gcs_server"), ("raylet", "/raylet/raylet")])
def test_a_study_whose_ray_is_killed_stops_soon_with_one_line_and_leaves_no_process(
    name: str, part: str, stub: None, plain_study: Callable[..., Path]
) -> None:
    plain_study()
    with start_study() as run:
        wait_until(lambda: STUDY.exists() and read_events(STUDY, TrialEpoch), run, "no epoch was reported")
        for process in run.list_processes(part):
            process.kill()
        assert run.wait_for_end(SOON) == 1, run.output
        assert_nothing_runs(run)
    (stop,) = [line for line in run.output.splitlines() if line.startswith("stopped: ")]
    assert stop.startswith(f"stopped: Ray's process {name} on this machine has ended: it was killed")
    assert stop.endswith("then continue with: decred-study run study.yaml")
    assert [event.reason for event in read_events(STUDY, StudyInterrupted)]
    with start_study() as run:
        assert run.wait_for_end() == 0, run.output
    assert {trial.state for trial in Ledger.open(STUDY).trials.values()} == {TrialState.COMPLETE}
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


@pytest.mark.chaos
def test_a_study_that_waits_for_an_answer_of_a_ray_that_was_killed_stops_soon_with_one_line(
    stub: None, plain_study: Callable[..., Path]
) -> None:
    plain_study()
    command = [sys.executable, "-u", "-c", WAITS + RUN.format(address=None, host="")]
    run = CommandProcess(command, {"STUB_SECONDS": "0.3"})
    try:
        wait_until(lambda: STUDY.exists() and read_events(STUDY, TrialEpoch), run, "no epoch was reported")
        for process in run.list_processes("/gcs/gcs_server"):
            process.kill()
        assert run.wait_for_end(SOON) == 1, run.output
        assert_nothing_runs(run)
    finally:
        run.close()
    (stop,) = [line for line in run.output.splitlines() if line.startswith("stopped: ")]
    assert stop.startswith("stopped: Ray's process gcs_server on this machine has ended: it was killed")
    assert stop.endswith("then continue with: decred-study run study.yaml")
    assert read_events(STUDY, StudyInterrupted) == [], "a thread beside that of the records writes none"
    with start_study() as again:
        assert again.wait_for_end() == 0, again.output
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)
