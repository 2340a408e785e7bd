"""A study that faults strike: its sessions one after the other, until it has come to its end."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from chaos.fault_driver import CLOCK, DISK, HALF, HOST
from chaos.fault_schedule import Fault, Scenario
from chaos.faults import Disk, Events
from chaos.invariants import Invariants
from chaos.study_process import PATIENCE, CommandProcess
from mlflow_server import Server
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.main import app
from study.ledger.event_log import EventLog
from study.ledger.events import TrialEpoch
from study.ledger.ledger import STUDY, Ledger

EPOCH_SECONDS = 0.25
REAL_WORK = ("model.training.loop:train", "model.training.prepare:prepare")
PAUSE_SECONDS = 2.0  # that a pause lasts at least, where nothing strikes meanwhile
# What the driver reads and writes while it runs: see `chaos.fault_driver`.
CLOCK_FILE, DISK_FILE, HALF_FILE = Path("clock.txt"), Path("disk.txt"), Path("half-written")
NOT_ANSWERED = "is written down as"  # what the command line prints of a command that is carried out later
DAMAGE = "is damaged"  # within a refusal that no fault can give a reason for
Action = Callable[["StudyUnderFaults"], bool]  # whether there was anything that it could strike


@dataclass
class StudyUnderFaults:
    """What faults act on. Everything is in the current folder; `folder` is the study's own."""

    scenario: Scenario
    folder: Path
    disk: Disk
    server: Server | None
    invariants: Invariants
    driver: CommandProcess = field(init=False)
    was_killed: bool = False  # the driver, by a fault
    was_signalled: bool = False  # the driver, by a fault, to stop
    taken: list[Fault] = field(default_factory=list)  # faults that struck something
    missed: list[Fault] = field(default_factory=list)  # those that found nothing to strike
    drivers: list[CommandProcess] = field(default_factory=list)
    others: list[CommandProcess] = field(default_factory=list)  # commands of users, and nodes
    has_used_node: bool = False  # whether a trial ran on a node that was lost
    paused: float | None = None  # when a trial or the study was paused, until all are resumed
    _sizes: list[int] = field(default_factory=list)  # of the event files, when they were read last
    _epochs: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.scenario.seed)

    def run(self, actions: dict[str, Action]) -> None:
        """Start sessions and have the faults strike, until the study has ended; an AssertionError where a rule of
        `invariants` is broken."""
        faults = list(self.scenario.faults)
        try:
            while True:
                left = len(faults)
                self.driver, self.was_killed, self.was_signalled = self.start_driver(), False, False
                self._strike(faults, actions)
                self.wait_for_end(self.driver)
                self.invariants.check_session(self.driver, self.was_killed, self.was_signalled)
                if self.invariants.has_ended(self.driver):
                    return
                assert len(faults) < left, f"nothing struck a session, but it did not end:\n{self.driver.output}"
        finally:
            for process in self.drivers + self.others:
                process.close()

    def describe(self) -> str:
        """What was done to it so far, in a line."""
        struck, orders = " ".join(map(str, self.taken)) or "nothing", self.invariants.orders
        answered = f"{sum(orders.answered.values())} of {orders.given} commands carried out"
        node = "; a trial ran on the lost node" if self.has_used_node else ""
        return f"struck by {struck} in {len(self.drivers)} processes, {answered}{node}"

    @property
    def environment(self) -> dict[str, str]:
        """What its processes have in their environment."""
        files = {CLOCK: CLOCK_FILE, DISK: DISK_FILE, HALF: HALF_FILE}
        return {name: str(file.resolve()) for name, file in files.items()} | {"STUB_SECONDS": str(EPOCH_SECONDS)}

    def start_driver(self, host: str = "") -> CommandProcess:
        """Another process that runs the study; `host` is the machine that it believes to be on."""
        work = REAL_WORK if self.scenario.is_real else ()
        command = [sys.executable, "-u", "-m", "chaos.fault_driver", "study.yaml", *work]
        self.drivers.append(CommandProcess(command, self.environment | {HOST: host}))
        return self.drivers[-1]

    def start_command(self, *arguments: str) -> CommandProcess:
        """`decred-study` with these arguments."""
        self.others.append(CommandProcess([sys.executable, "-m", "study", *arguments]))
        return self.others[-1]

    def order(self, *words: str) -> None:
        """Give the study a command; one that is answered has to be in its records from then on."""
        output = run_here(words[0], "study.yaml", *words[1:])
        self.invariants.orders.given += 1
        if output is not None and NOT_ANSWERED not in output:
            self.invariants.orders.acknowledge(*words)

    def resume(self) -> None:
        """Resume what is paused, so that the study can end."""
        if self.paused is None or time.monotonic() < self.paused + PAUSE_SECONDS:
            return
        if not (self.folder / STUDY).exists():  # the pause was refused: there is no study yet
            return
        steering = Ledger.open(self.folder).trials.steering
        if steering.paused_by is not None:
            self.order("resume")
        for number in steering.held:
            self.order("trial", str(number), "resume")

    def wait_for_end(self, driver: CommandProcess) -> int:
        """The exit code of a driver; what is paused is resumed, so that it can end."""
        patience = Patience(driver)
        while driver.process.poll() is None:
            patience.check("it did not end")
            self.resume()
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.process.wait(0.5)
        return int(driver.process.returncode)

    def find_process(self, name: str) -> Any | None:
        """One of the driver's processes whose command has `name`."""
        found = self.driver.list_processes(name)
        return self.chance.choice(sorted(found, key=lambda process: process.pid)) if found else None

    def wait(self, seconds: float, until: Callable[[], object] = lambda: False, step: float = 0.02) -> None:
        """Wait, at most as long as the driver lives, and `until`, asked every `step` seconds, is not true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.driver.process.poll() is None and not until():
            time.sleep(step)

    def _strike(self, faults: list[Fault], actions: dict[str, Action]) -> None:
        """Have those strike whose time comes while this driver lives, and take them from the list."""
        patience = Patience(self.driver)
        while faults and self.driver.process.poll() is None:
            patience.check(f"{faults[0]} never came")
            if self._count_epochs() < faults[0].epochs:
                self.resume()
                time.sleep(0.05)
                continue
            fault = faults.pop(0)
            # Of a study that has not reported yet, a second covers little of the start.
            self.wait(fault.delay if fault.epochs else 10 * fault.delay)
            if self.driver.process.poll() is None:
                (self.taken if actions[fault.kind](self) else self.missed).append(fault)

    def _count_epochs(self) -> int:
        """The epochs that were reported so far, read again only when more was written."""
        try:
            log = EventLog(self.folder)
            sizes = [path.stat().st_size for path in log.files()]
            if sizes != self._sizes:
                events: Events = log.read()
                self._sizes, self._epochs = sizes, sum(isinstance(event, TrialEpoch) for event in events)
        except FileNotFoundError:  # a full disk made a session give up its new file
            return 0
        return self._epochs


class Patience:
    """Knows how long a driver has printed nothing: on a busy machine three groups of workers start in minutes."""

    def __init__(self, driver: CommandProcess) -> None:
        self._driver, self._output, self._since = driver, "", time.monotonic()

    def check(self, message: str) -> None:
        """An AssertionError with the message after PATIENCE seconds without a new line."""
        if (output := self._driver.output) != self._output:
            self._output, self._since = output, time.monotonic()
        assert time.monotonic() - self._since < PATIENCE, f"{message} in {PATIENCE:g} s:\n{output}"


def run_here(*arguments: str) -> str | None:
    """What `decred-study` prints with these arguments; None where it refuses in a line. It runs in this process, which
    has imported everything, so that it comes at once."""
    done = CliRunner().invoke(app, arguments, standalone_mode=False)
    if done.exception is None:
        return done.output
    if isinstance(done.exception, UserError):
        assert DAMAGE not in str(done.exception), done.exception
        return None
    raise done.exception


def write_study(scenario: Scenario, corpus: str, disk: Disk, tracking: str | None, miniature: dict[str, Any]) -> Path:
    """Write `study.yaml` into the current folder; the study's own folder."""
    content = scenario.make_study(corpus, str(disk.folder), tracking, miniature)
    Path("study.yaml").write_text(yaml.safe_dump(content))
    for file in (CLOCK_FILE, DISK_FILE):
        file.write_text("0")
    return disk.folder / content["name"]
