"""A second machine that joins the Ray of a study while that runs, and is lost again."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from pathlib import Path
from typing import Any

from chaos.fault_run import StudyUnderFaults
from chaos.study_process import CommandProcess, psutil

RAY = Path(sys.executable).with_name("ray")
STORE_BYTES = 80 * 1024**2  # of its objects, the least that Ray takes
JOIN_SECONDS = 40.0  # at most, until it is there
WORK_SECONDS = 20.0  # at most, until a trial trains on it
LOOK_SECONDS = 0.25  # between two looks at its processes
CURRENT = Path("/tmp/ray/ray_current_cluster")
RAYLET = "/raylet/raylet"
TRIALS = ("ray::ResourceTrainable", "ray::RayTrainWorker")  # processes in which trials train
JOINED = "Ray runtime started"  # what `ray start` prints
NODE_CPUS = 3  # more than the head has: Ray prefers the node with most left


def lose_node(study: StudyUnderFaults) -> bool:
    """kill -9 of the raylet of a node, and then of all that runs there, at any time since it has joined.

    The study is paused until then, and the processes of its trials die: so its trials are placed again, with the node.
    """
    head = study.find_process(RAYLET)
    if head is None or (found := _find_head(head)) is None:
        return False  # the study has not started its Ray yet, or it is gone
    address, credentials = found
    study.paused = time.monotonic()
    study.order("pause")
    command = [str(RAY), "start", f"--address={address}", f"--num-cpus={NODE_CPUS}"]
    command += [f"--object-store-memory={STORE_BYTES}", "--block", "--disable-usage-stats"]
    node = CommandProcess(command, study.environment | credentials)
    study.others.append(node)
    has_ended = node.process.poll  # None as long as it runs
    study.wait(JOIN_SECONDS, until=lambda: JOINED in node.output or has_ended() is not None, step=LOOK_SECONDS)
    has_joined = JOINED in node.output
    for name in TRIALS:
        for process in study.driver.list_processes(name):
            _kill(process)
    study.order("resume")
    study.wait(WORK_SECONDS, until=lambda: _has_trial(node), step=LOOK_SECONDS)
    study.has_used_node |= _has_trial(node)
    study.wait(study.chance.uniform(0.0, 3.0))
    for raylet in node.list_processes(RAYLET):
        _kill(raylet)
    study.wait(study.chance.choice((0.0, 1.0)))
    node.close()
    # `ray start` has written it down for all who name no address.
    if CURRENT.exists() and CURRENT.read_text() == address:
        CURRENT.unlink()
    return has_joined


def _kill(process: Any) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()


def _has_trial(node: CommandProcess) -> bool:
    """Whether a worker of a trial runs there."""
    return any(name in command for command in node.list_commands() for name in TRIALS)


def _find_head(raylet: Any) -> tuple[str, dict[str, str]] | None:
    """The address of its head, and the environment variables with its token; None where it is gone."""
    with contextlib.suppress(psutil.Error):
        found = re.search(r"--gcs-address=(\S+)", " ".join(raylet.cmdline()))
        credentials = {name: value for name, value in raylet.environ().items() if name.startswith("RAY_AUTH")}
        return (found[1], credentials) if found else None
    return None
