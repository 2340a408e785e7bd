"""A study that faults strike: its sessions one after the other, until it has come to its end."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from chaos.fault_driver import CLOCK, HOST
from chaos.fault_schedule import Fault, Scenario
from chaos.faults import Disk, Events
from chaos.invariants import Invariants
from chaos.study_process import PATIENCE, CommandProcess
from mlflow_server import Server

from study.ledger.event_log import EventLog
from study.ledger.events import TrialEpoch

EPOCH_SECONDS = 0.15
REAL_WORK = ("model.training.loop:train", "model.training.prepare:prepare")
MORE_SESSIONS = 6  # than there are faults
CLOCK_FILE = Path("clock.txt")
Action = Callable[["StudyUnderFaults"], object]


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
    taken: list[Fault] = field(default_factory=list)
    drivers: list[CommandProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.scenario.seed)

    def run(self, actions: dict[str, Action]) -> None:
        """Start sessions and have the faults strike, until the study has ended; an AssertionError where a rule of
        `invariants` is broken."""
        faults = list(self.scenario.faults)
        try:
            for _ in range(len(faults) + MORE_SESSIONS):
                self.driver, self.was_killed = self.start_driver(), False
                self._strike(faults, actions)
                code = self.driver.wait_for_end()
                self.invariants.check_session(self.driver, self.was_killed)
                if code == 0:
                    return
            raise AssertionError(f"the study did not end; the last session:\n{self.driver.output}")
        finally:
            for driver in self.drivers:
                driver.close()

    def start_driver(self, host: str = "") -> CommandProcess:
        """Another process that runs the study; `host` is the machine that it believes to be on."""
        work = REAL_WORK if self.scenario.is_real else ()
        environment = {"STUB_SECONDS": str(EPOCH_SECONDS), CLOCK: str(CLOCK_FILE.resolve()), HOST: host}
        command = [sys.executable, "-u", "-m", "chaos.fault_driver", "study.yaml", *work]
        self.drivers.append(CommandProcess(command, environment))
        return self.drivers[-1]

    def find_process(self, name: str) -> Any | None:
        """One of the driver's processes whose command has `name`."""
        found = self.driver.list_processes(name)
        return self.chance.choice(sorted(found, key=lambda process: process.pid)) if found else None

    def wait(self, seconds: float) -> None:
        """Wait, at most as long as the driver lives."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.driver.process.poll() is None:
            time.sleep(0.02)

    def _strike(self, faults: list[Fault], actions: dict[str, Action]) -> None:
        """Have those strike whose time comes while this driver lives, and take them from the list."""
        deadline = time.monotonic() + PATIENCE
        while faults and self.driver.process.poll() is None:
            assert time.monotonic() < deadline, f"{faults[0]} never came:\n{self.driver.output}"
            if self._count_epochs() < faults[0].epochs:
                time.sleep(0.05)
                continue
            fault = faults.pop(0)
            # Of a study that has not reported yet, a second covers little of the start.
            self.wait(fault.delay if fault.epochs else 10 * fault.delay)
            if self.driver.process.poll() is None:
                actions[fault.kind](self)
                self.taken.append(fault)
                deadline = time.monotonic() + PATIENCE

    def _count_epochs(self) -> int:
        try:
            events: Events = EventLog(self.folder).read()
        except FileNotFoundError:  # a full disk made a session give up its new file
            return 0
        return sum(isinstance(event, TrialEpoch) for event in events)


def write_study(scenario: Scenario, corpus: str, disk: Disk, tracking: str | None, miniature: dict[str, Any]) -> Path:
    """Write `study.yaml` into the current folder; the study's own folder."""
    content = scenario.make_study(corpus, str(disk.folder), tracking, miniature)
    Path("study.yaml").write_text(yaml.safe_dump(content))
    CLOCK_FILE.write_text("0")
    return disk.folder / content["name"]
