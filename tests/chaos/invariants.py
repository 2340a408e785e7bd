"""What holds of a study whatever strikes it: after each of its sessions, and in the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.epoch_order import assert_trained_once
from chaos.records import assert_records_agree
from chaos.study_process import CommandProcess

from study.ledger.event_log import EventLog
from study.ledger.ledger import STUDY, Ledger
from study.ledger.records import TrialState

ENDS = (0, 1, 2, 130)  # exit codes of a session that was not killed: ended, had to stop, refused or full disk, stopped
GONE_WITHIN = 60.0  # seconds after a session's end, until nothing that it started still runs
FINAL = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE}


class Invariants:
    """Remembers what the study had recorded, and checks that it stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: dict[str, bytes] = {}
        self._ended: dict[int, TrialState] = {}

    def check_session(self, driver: CommandProcess, was_killed: bool) -> None:
        """After a session's end: nothing recorded is gone, and it ended as sessions do."""
        assert_clean_output(driver.output)
        if not was_killed:
            assert_ended_well(driver)
            assert_nothing_runs(driver)
        if (self.folder / STUDY).exists():
            self._check_lines()
            self._check_ended()

    def check_end(self, trials: int) -> None:
        """Once the study has ended: each trial once, and the same in all records. `trials` with the baseline."""
        ledger = Ledger.open(self.folder)
        records = ledger.trials
        assert list(records) == list(range(trials)), f"trials are {list(records)}, but must be 0 to {trials - 1}"
        states = {number: record.state for number, record in records.items()}
        assert set(states.values()) <= FINAL, f"a trial has not ended: {states}"
        for number, record in records.items():
            epochs = [report.epoch for report in record.epochs]
            assert epochs == list(range(1, len(epochs) + 1)), f"trial {number} has epochs {epochs}"
        assert_trained_once(ledger.log.read())
        assert_records_agree(self.folder)

    def _check_lines(self) -> None:
        contents = {path.name: path.read_bytes() for path in EventLog(self.folder).files()}
        whole = {name: content[: content.rfind(b"\n") + 1] for name, content in contents.items()}
        for name, before in self._lines.items():
            assert whole.get(name, b"").startswith(before), f"{name} lost lines that it had"
        self._lines = whole

    def _check_ended(self) -> None:
        records = Ledger.open(self.folder).trials
        for number, state in self._ended.items():
            assert records[number].state is state, f"trial {number} was {state}, and is {records[number].state}"
        self._ended = {number: record.state for number, record in records.items() if record.state.final}


def assert_clean_output(output: str) -> None:
    """No traceback, not even one of a thread."""
    assert "Traceback" not in output, output


def assert_ended_well(driver: CommandProcess) -> None:
    """A known exit code, and one line that says why it is not 0."""
    code = driver.process.returncode
    if code in (130, -signal.SIGTERM) and not driver.output:
        return  # stopped before anything was opened or started
    assert code in ENDS, f"exit code {code}:\n{driver.output}"
    errors = [line for line in driver.output.splitlines() if line.startswith("error: ")]
    if code == 2:
        assert len(errors) == 1, f"{len(errors)} lines of error:\n{driver.output}"
    if code == 130:
        assert "stopped; " in driver.output, driver.output


def assert_nothing_runs(driver: CommandProcess) -> None:
    """What a session started ends with it."""
    deadline = time.monotonic() + GONE_WITHIN
    left: Sequence[str] = ()
    while time.monotonic() < deadline:
        if not (left := driver.list_commands()):
            return
        time.sleep(0.2)
    raise AssertionError(f"still running {GONE_WITHIN:g} s after the end: {left}")
