"""What holds of a study whatever strikes it: after each of its sessions, and in the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from chaos.epoch_order import assert_trained_once
from chaos.fault_driver import MARGIN
from chaos.optuna_view import assert_optuna_agrees
from chaos.orders import Orders, assert_as_many_as_ordered, assert_orders_followed
from chaos.records import assert_records_agree
from chaos.session_output import assert_clean_output, assert_ended_well, assert_nothing_runs
from chaos.shown_status import assert_status_agrees
from chaos.spent_budget import Span, read_times, sum_overlaps, sum_up
from chaos.study_process import CommandProcess

from model.errors import UserError
from study.config.budget import SECONDS_PER_HOUR
from study.ledger.best import find_best
from study.ledger.event_log import EventLog
from study.ledger.events import AnyEvent, ControlGiven, SessionStarted, StudyEnded, TrialEnded
from study.ledger.ledger import STUDY, Ledger
from study.ledger.open_parts import SEARCH, is_closed, part_of
from study.ledger.records import TrialState
from study.ledger.steering import RETRY
from study.tracking.flush import count_outdated

BY_PERSON = "stopped by "  # the begin of the reason of a trial that a person stopped
NOT_SENT = "up to date in MLflow at"  # within the last line of a session that could not send all
ROOM = 2.0  # times what a whole trial takes: so much of a budget at most is left unused, beside what is kept
FINAL = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE}


class Invariants:
    """Remembers what the study had recorded, and checks that it stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.orders = Orders()
        self.held_up: list[Span] = []  # when processes were frozen, or the disk was slow
        self.sessions = 0
        self._lines: dict[str, bytes] = {}
        self._ended: dict[int, TrialState] = {}
        self._spent = 0.0

    def check_session(self, driver: CommandProcess, was_killed: bool, was_signalled: bool) -> None:
        """After a session's end: nothing recorded is gone, and it ended as sessions do."""
        self.sessions += 1
        assert_clean_output(driver.output)
        if not was_killed:
            assert_ended_well(driver, was_asked=was_signalled or self._was_drained())
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
        if not ledger.trials.has_ended:
            assert code == 1 or has_order_since_end(ledger.log.read()), f"it has not ended:\n{driver.output}"
            return False
        best = find_best(ledger.trials.values(), ledger.study.objective)
        assert code == (1 if best is None else 0), f"exit code {code} with {best}:\n{driver.output}"
        return True

    def check_tracking(self, output: str, was_hit: bool) -> None:
        """After the last session: what MLflow has not got is said; `was_hit`: a fault may have kept MLflow from it."""
        ledger = Ledger.open(self.folder)
        outdated = count_outdated(ledger)
        if has_order_since_end(ledger.log.read()):  # a note, which no session has sent yet
            return
        assert not outdated or NOT_SENT in output, f"{outdated} runs are not up to date, and no line says so:\n{output}"
        assert was_hit or outdated <= len(ledger.trials), "MLflow has nothing of this study"

    def check_end(self, trials: int, status: str | None) -> None:
        """Once the study has ended: each trial once, and the same in all records. `trials` are the sampled ones that
        its file asks for, `status` is what `status --json --all` prints."""
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
        assert_orders_followed(events, ledger.study.workers.concurrent_trials)
        self.orders.check(events)
        self._check_ended(ledger)
        self._check_budget(ledger)
        self._check_use(ledger)
        assert status is not None, "`status` was refused"
        assert_status_agrees(ledger, status)
        assert_records_agree(self.folder)
        assert_optuna_agrees(ledger)

    def count_ended(self) -> int:
        """The trials that have ended."""
        return len(self._ended)

    def count_pruned(self) -> int:
        """The trials that the rule stopped early."""
        if (ledger := self._read()) is None:
            return 0
        pruned = [record for record in ledger.trials.values() if record.state is TrialState.PRUNED]
        return sum(not (record.reason or "").startswith(BY_PERSON) for record in pruned)

    def count_lost(self) -> int:
        """The trials that had ended and are gone, have another end, or ended twice."""
        if (ledger := self._read()) is None:
            return len(self._ended)
        return len(set(self._find_changed(ledger)) | set(find_ended_twice(ledger.log.read())))

    def _read(self) -> Ledger | None:
        """None where there is none, or it is damaged, so that nothing can be read."""
        with contextlib.suppress(UserError):
            return Ledger.open(self.folder)
        return None

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
        times, cpus = read_times(ledger.log.read()).values(), study.workers.count * study.workers.cpus
        counted = cpus * sum_up(times)
        assert counted <= spent + 0.01, f"{counted} CPU-seconds are in the events, but {spent} are counted"
        assert self._spent - 1e-6 <= spent, f"{self._spent} CPU-seconds were spent, and now {spent}"
        # Nobody can end a trial while its driver, or what it runs on, is frozen.
        excess = cpus * sum_overlaps(times, self.held_up)
        assert spent <= limit + excess, f"{spent} CPU-seconds were spent of {limit}, and {excess} while held up"
        self._spent = spent

    def _check_use(self, ledger: Ledger) -> None:
        """What is left of a budget that has ended the search has no room for another trial."""
        study = ledger.study
        if study.budget is None or study.budget.cpu_hours is None or not is_closed(ledger.trials, study, SEARCH):
            return
        times = read_times(ledger.log.read())
        wholes = [whole for one in times.values() if (whole := one.estimate_whole()) is not None]
        if not wholes:  # nobody knows what a trial takes
            return
        dearest = study.workers.count * study.workers.cpus * max(wholes)
        limit = SECONDS_PER_HOUR * study.budget.cpu_hours
        kept = len(study.classes) * study.confirmation.seeds
        most = (1 + kept) * ROOM * dearest + MARGIN * limit
        assert limit - self._spent <= most, f"{self._spent} of {limit} CPU-seconds were used; a trial takes {dearest}"

    def _was_drained(self) -> bool:
        """Whether a person has ended the last session with `drain`."""
        drained = False
        for event in EventLog(self.folder).read():
            is_drain = isinstance(event, ControlGiven) and event.command == "drain"
            drained = not isinstance(event, SessionStarted) and (drained or is_drain)
        return drained


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


def has_order_since_end(events: Iterable[AnyEvent]) -> bool:
    """Whether a person has given a command after the study had ended."""
    has_ended = is_given = False
    for event in events:
        if isinstance(event, StudyEnded):
            has_ended, is_given = True, False
        elif isinstance(event, ControlGiven):
            is_given = True
    return has_ended and is_given
