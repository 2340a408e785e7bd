"""The faults that can strike a study. To add one, write a function of a `StudyUnderFaults` and a line in `FAULTS`."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from chaos.fault_disk import fill_disk, kill_driver, kill_in_write, slow_disk, tear_line
from chaos.fault_nodes import lose_node
from chaos.fault_run import CLOCK_FILE, Action, StudyUnderFaults
from chaos.fault_schedule import FILE, SERVER
from chaos.fault_steering import kill_command, pause_study, run_command, start_second_driver, steer
from chaos.faults import Locker
from chaos.session_output import assert_clean_output
from chaos.study_process import psutil

from study.ledger.event_log import EventLog

FROZEN_SECONDS = 3.0
DAY = 86_400.0


def stop_driver(study: StudyUnderFaults) -> bool:
    """As Ctrl-C or a scheduler does, perhaps twice."""
    study.was_signalled = True
    for _ in range(study.chance.choice((1, 1, 2))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(study.driver.process.pid, study.chance.choice((signal.SIGINT, signal.SIGTERM)))
        study.wait(study.chance.uniform(0.1, 1.0))
    return True


def kill(name: str) -> Action:
    """kill -9 of one of the study's processes whose command has `name`."""

    def strike(study: StudyUnderFaults) -> bool:
        process = study.find_process(name)
        with contextlib.suppress(psutil.Error):
            if process is not None:
                process.kill()
                return True
        return False

    return strike


def freeze(name: str) -> Action:
    """SIGSTOP of one of the study's processes whose command has `name`, or of the driver, and SIGCONT later."""

    def strike(study: StudyUnderFaults) -> bool:
        with contextlib.suppress(psutil.Error):
            process: Any = study.find_process(name) if name else psutil.Process(study.driver.process.pid)
            if process is not None:
                process.suspend()
                start = time.time()
                time.sleep(study.chance.uniform(0.5, FROZEN_SECONDS))
                process.resume()
                study.invariants.held_up.append((start, time.time()))
                return True
        return False

    return strike


def replace_driver(study: StudyUnderFaults) -> bool:
    """It is frozen until a driver of another machine has taken the study over, and then runs again.

    Where it was frozen before it had the study, it is refused like any second driver.
    """
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
        assert "was taken over by" in more or "is being run by" in more, frozen.output
    return True


def move_clock(study: StudyUnderFaults) -> bool:
    CLOCK_FILE.write_text(str(study.chance.choice((-DAY, -60.0, 60.0, 30 * DAY))))
    return True


def lock_database(study: StudyUnderFaults) -> bool:
    """Another program holds MLflow's file."""
    database = study.folder / "mlflow.db"
    if not database.exists():
        return False
    locker = Locker(database)
    locker.lock()
    study.wait(FROZEN_SECONDS)
    locker.free()
    return True


def kill_server(study: StudyUnderFaults) -> bool:
    assert study.server is not None
    study.server.stop()
    study.wait(FROZEN_SECONDS)
    study.server.start()
    return True


def freeze_server(study: StudyUnderFaults) -> bool:
    assert study.server is not None
    study.server.signal(signal.SIGSTOP)
    study.wait(2 * FROZEN_SECONDS)
    study.server.signal(signal.SIGCONT)
    return True


TRACKING = {"lock_database", "kill_server", "freeze_server", "fill_disk"}  # faults that MLflow's runs may suffer from
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
    "steer": (steer, None, 4),
    "pause_study": (pause_study, None, 0.5),
    "kill_command": (kill_command, None, 1),
    "lose_node": (lose_node, None, 0.7),
    "fill_disk": (fill_disk, None, 2),
    "slow_disk": (slow_disk, None, 1),
    "kill_in_write": (kill_in_write, None, 2),
    "tear_line": (tear_line, None, 1),
    "move_clock": (move_clock, None, 1),
    "lock_database": (lock_database, FILE, 1),
    "kill_server": (kill_server, SERVER, 2),
    "freeze_server": (freeze_server, SERVER, 2),
}
