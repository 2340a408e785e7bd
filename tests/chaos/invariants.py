"""What holds of a study whatever strikes it: after each of its sessions, and in the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from chaos.epoch_order import assert_trained_once
from chaos.optuna_view import assert_optuna_agrees
from chaos.orders import Orders, assert_as_many_as_ordered, assert_orders_followed
from chaos.records import assert_records_agree
from chaos.study_process import CommandProcess

from model.errors import UserError
from study.config.budget import SECONDS_PER_HOUR
from study.ledger.best import find_best
from study.ledger.event_log import EventLog
from study.ledger.events import AnyEvent, ControlGiven, TrialEnded
from study.ledger.ledger import STUDY, Ledger
from study.ledger.open_parts import is_closed, part_of
from study.ledger.records import TrialState
from study.ledger.steering import RETRY

ENDS = (0, 1, 2, 130)  # exit codes of a session that was not killed: ended, had to stop, refused or full disk, stopped
GONE_WITHIN = 60.0  # seconds after a session's end, until nothing that it started still runs
FINAL = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE}


class Invariants:
    """Remembers what the study had recorded, and checks that it stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.orders = Orders()
        self.held_up = 0.0  # seconds for which processes were frozen, or the disk was slow
        self.sessions = 0
        self._lines: dict[str, bytes] = {}
        self._ended: dict[int, TrialState] = {}
        self._spent = 0.0

    def check_session(self, driver: CommandProcess, was_killed: bool) -> None:
        """After a session's end: nothing recorded is gone, and it ended as sessions do."""
        self.sessions += 1
        assert_clean_output(driver.output)
        if not was_killed:
            assert_ended_well(driver)
            assert_nothing_runs(driver)
        if (self.folder / STUDY).exists():
            ledger = Ledger.open(self.folder)
            self._check_lines()
            self._check_ended(ledger)
            self._check_budget(ledger)

    def has_ended(self, driver: CommandProcess) -> bool:
        """Whether the session was the study's last one. Its exit code is 0 then, or 1 where no trial has a figure."""
        code = driver.process.returncode
        if code not in (0, 1) or not (self.folder / STUDY).exists():
            return False
        ledger = Ledger.open(self.folder)
        if not ledger.trials.has_ended:  # it had to stop, or a command has come since
            return False
        best = find_best(ledger.trials.values(), ledger.study.objective)
        assert code == (1 if best is None else 0), f"exit code {code} with {best}:\n{driver.output}"
        return True

    def check_end(self, trials: int) -> None:
        """Once the study has ended: each trial once, and the same in all records. `trials` are the sampled ones that
        its file asks for."""
        ledger = Ledger.open(self.folder)
        events = ledger.log.read()
        assert_as_many_as_ordered(ledger, trials)
        for number, record in ledger.trials.items():
            waits = is_closed(ledger.trials, ledger.study, part_of(record))  # for a larger budget
            assert record.state in FINAL or waits, f"trial {number} has not ended: {record.state}"
            assert record.state is not TrialState.RUNNING, f"trial {number} runs"
            epochs = [report.epoch for report in record.epochs]
            assert epochs == list(range(1, len(epochs) + 1)), f"trial {number} has epochs {epochs}"
        assert_trained_once(events)
        assert_orders_followed(events)
        self.orders.check(events)
        self._check_ended(ledger)
        self._check_budget(ledger)
        assert_records_agree(self.folder)
        assert_optuna_agrees(ledger)

    def count_ended(self) -> int:
        """The trials that have ended."""
        return len(self._ended)

    def count_lost(self) -> int:
        """The trials that had ended and are gone, have another end, or ended twice."""
        if not (self.folder / STUDY).exists():
            return len(self._ended)
        try:
            ledger = Ledger.open(self.folder)
        except UserError:  # it is damaged, so that nothing can be read
            return len(self._ended)
        return len(set(self._find_changed(ledger)) | set(find_ended_twice(ledger.log.read())))

    def _check_lines(self) -> None:
        contents = {path.name: path.read_bytes() for path in EventLog(self.folder).files()}
        whole = {name: content[: content.rfind(b"\n") + 1] for name, content in contents.items()}
        for name, before in self._lines.items():
            assert whole.get(name, b"").startswith(before), f"{name} lost lines that it had"
        self._lines = whole

    def _check_ended(self, ledger: Ledger) -> None:
        changed = self._find_changed(ledger)
        assert not changed, f"trials that had ended have changed: {changed}"
        self._ended = {number: record.state for number, record in ledger.trials.items() if record.state.final}

    def _find_changed(self, ledger: Ledger) -> dict[int, str]:
        """The trials that have not the state with which they had ended, but for those that a person reopened."""
        given = (event for event in ledger.log.iterate() if isinstance(event, ControlGiven))
        reopened = {event.number for event in given if event.command == RETRY}
        changed = {}
        for number, state in self._ended.items():
            record = ledger.trials.get(number)
            if record is None or (record.state is not state and number not in reopened):
                changed[number] = f"{state}, now {record and record.state}"
        return changed

    def _check_budget(self, ledger: Ledger) -> None:
        """What is spent never becomes less, and never passes the limit."""
        study = ledger.study
        if study.budget is None or study.budget.cpu_hours is None:
            return
        spent = SECONDS_PER_HOUR * ledger.trials.spent.measure(study.budget, study.workers)["cpu_hours"]
        limit = SECONDS_PER_HOUR * study.budget.cpu_hours
        # Nobody can end a trial while its driver, or what it runs on, is frozen.
        at_once = (study.workers.concurrent_trials or 1) * study.workers.count * study.workers.cpus
        assert self._spent - 1e-6 <= spent, f"{self._spent} CPU-seconds were spent, and now {spent}"
        assert spent <= limit + self.held_up * at_once, f"{spent} CPU-seconds were spent of {limit}"
        self._spent = spent


def find_ended_twice(events: Iterable[AnyEvent]) -> list[int]:
    """The trials with a second end that no reopening precedes."""
    ended: set[int] = set()
    twice = []
    for event in events:
        match event:
            case ControlGiven(command="retry", number=int(number)):
                ended.discard(number)
            case TrialEnded(number=number) if event.state.final:
                if number in ended:
                    twice.append(number)
                ended.add(number)
    return twice


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
