"""The faults that can strike a study. To add one, write a function of a `StudyUnderFaults` and a line in `FAULTS`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import Any

from chaos.fault_run import CLOCK_FILE, Action, StudyUnderFaults
from chaos.fault_schedule import FILE, SERVER
from chaos.faults import Locker
from chaos.invariants import assert_clean_output
from chaos.study_process import CommandProcess, psutil

from study.ledger.event_log import EventLog

FROZEN_SECONDS = 3.0
FULL_SECONDS = 4.0
DAY = 86_400.0
COMMANDS = (
    ("status", "study.yaml"),
    ("validate", "study.yaml"),
    ("trial", "study.yaml", "0", "retry"),
    ("run", "study.yaml"),
)
STEERING = (
    ("trial", "study.yaml", "0", "note", "looks well"),
    ("trial", "study.yaml", "1", "stop"),
    ("trial", "study.yaml", "1", "promote"),
    ("set", "study.yaml", "concurrent_trials=1"),
    ("drain", "study.yaml"),
    ("pause", "study.yaml"),
)


def kill_driver(study: StudyUnderFaults) -> None:
    study.was_killed = True
    study.driver.kill()
    study.driver.close()


def stop_driver(study: StudyUnderFaults) -> None:
    """As Ctrl-C or a scheduler does, perhaps twice."""
    for _ in range(study.chance.choice((1, 1, 2))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(study.driver.process.pid, study.chance.choice((signal.SIGINT, signal.SIGTERM)))
        study.wait(study.chance.uniform(0.1, 1.0))


def kill(name: str) -> Action:
    """kill -9 of one of the study's processes whose command has `name`."""

    def strike(study: StudyUnderFaults) -> None:
        process = study.find_process(name)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill()

    return strike


def freeze(name: str) -> Action:
    """SIGSTOP of one of the study's processes whose command has `name`, or of the driver, and SIGCONT later."""

    def strike(study: StudyUnderFaults) -> None:
        process: Any = study.find_process(name) if name else psutil.Process(study.driver.process.pid)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.suspend()
                time.sleep(FROZEN_SECONDS)
                process.resume()

    return strike


def replace_driver(study: StudyUnderFaults) -> None:
    """It is frozen until a driver of another machine has taken the study over, and then runs again."""
    frozen, printed = study.driver, study.driver.output
    os.kill(frozen.process.pid, signal.SIGSTOP)
    study.driver = study.start_driver(f"host-{len(study.drivers)}")
    sessions = len(EventLog(study.folder).files())
    while study.driver.process.poll() is None and len(EventLog(study.folder).files()) == sessions:
        time.sleep(0.1)
    os.kill(frozen.process.pid, signal.SIGCONT)
    code = frozen.wait_for_end()
    more = frozen.output.removeprefix(printed)
    assert_clean_output(more)
    assert code in (0, 2), f"the replaced driver ended with {code}:\n{frozen.output}"
    if code == 2:
        assert "was taken over by" in more, frozen.output


def start_second_driver(study: StudyUnderFaults) -> None:
    """It is refused, at once, as long as the first one lives."""
    second = study.start_driver()
    code = second.wait_for_end()
    assert_clean_output(second.output)
    if study.driver.process.poll() is None:
        assert code == 2, f"a second driver ended with {code}:\n{second.output}"
        assert "is being run by" in second.output, second.output


def run_command(study: StudyUnderFaults) -> None:
    """A user's command at an odd time does its work, or is refused in a line."""
    arguments = study.chance.choice(COMMANDS)
    if arguments[0] == "run":
        start_second_driver(study)
        return
    _run(study, *arguments)


def steer(study: StudyUnderFaults) -> None:
    """A user steers the study; a pause of everything is taken back after a while."""
    arguments = study.chance.choice(STEERING)
    _run(study, *arguments)
    if arguments[0] == "pause":
        study.wait(FROZEN_SECONDS)
        _run(study, "resume", str(study.folder))


def _run(study: StudyUnderFaults, *arguments: str) -> None:
    """A command that does its work, or is refused in a line."""
    command = CommandProcess([sys.executable, "-m", "study", *arguments])
    study.drivers.append(command)
    assert command.wait_for_end() in (0, 1, 2), command.output
    assert_clean_output(command.output)


def fill_disk(study: StudyUnderFaults) -> None:
    study.disk.fill()
    study.wait(FULL_SECONDS)
    study.disk.free()


def tear_line(study: StudyUnderFaults) -> None:
    """The driver is killed while it appends: a part of a line is left."""
    kill_driver(study)
    if files := EventLog(study.folder).files():
        line = files[-1].read_bytes().splitlines()[-1]
        with files[-1].open("ab") as file:
            file.write(line[: study.chance.randrange(1, len(line))])


def move_clock(study: StudyUnderFaults) -> None:
    CLOCK_FILE.write_text(str(study.chance.choice((-DAY, -60.0, 60.0, 30 * DAY))))


def lock_database(study: StudyUnderFaults) -> None:
    """Another program holds MLflow's file."""
    database = study.folder / "mlflow.db"
    if database.exists():
        locker = Locker(database)
        locker.lock()
        study.wait(FROZEN_SECONDS)
        locker.free()


def kill_server(study: StudyUnderFaults) -> None:
    assert study.server is not None
    study.server.stop()
    study.wait(FROZEN_SECONDS)
    study.server.start()


def freeze_server(study: StudyUnderFaults) -> None:
    assert study.server is not None
    study.server.signal(signal.SIGSTOP)
    study.wait(2 * FROZEN_SECONDS)
    study.server.signal(signal.SIGCONT)


# Name -> what it does, the tracking that it needs, and how often it is drawn beside the others.
FAULTS: dict[str, tuple[Action, str | None, float]] = {
    "kill_driver": (kill_driver, None, 3),
    "stop_driver": (stop_driver, None, 2),
    "kill_trial_driver": (kill("ray::ResourceTrainable"), None, 2),
    "kill_worker": (kill("ray::RayTrainWorker"), None, 2),
    "kill_raylet": (kill("/raylet/raylet"), None, 1),
    "kill_gcs": (kill("/gcs/gcs_server"), None, 1),
    "kill_agent": (kill("ray::DashboardAgent"), None, 1),
    "freeze_driver": (freeze(""), None, 1),
    "freeze_worker": (freeze("ray::RayTrainWorker"), None, 1),
    "freeze_raylet": (freeze("/raylet/raylet"), None, 1),
    "replace_driver": (replace_driver, None, 0.5),
    "second_driver": (start_second_driver, None, 1),
    "run_command": (run_command, None, 1),
    "steer": (steer, None, 2),
    "fill_disk": (fill_disk, None, 2),
    "tear_line": (tear_line, None, 1),
    "move_clock": (move_clock, None, 1),
    "lock_database": (lock_database, FILE, 1),
    "kill_server": (kill_server, SERVER, 2),
    "freeze_server": (freeze_server, SERVER, 2),
}
