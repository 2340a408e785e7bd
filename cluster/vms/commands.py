"""The shell commands that prepare a machine and start Ray on it, the same for `ray up` and for SkyPilot."""

from __future__ import annotations

import shlex
from pathlib import PurePath

from cluster.credentials import USUAL_FILE
from cluster.vms.profile import VmsProfile

FILES = "~/.decred-study"  # where the wheel and the pinned versions are copied to
HEAD_PORT, DASHBOARD_PORT = 6379, 8265
# Ray opens files for each worker and each connection; most systems allow a process 1,024, and more if it asks.
OPEN_FILES = 'ulimit -n 65536 2> /dev/null || ulimit -n "$(ulimit -H -n)"'
# The end of a study writes its checkpoints and its ledger; Ray would kill it after 3 s.
STOP_SECONDS = 60


def list_files(profile: VmsProfile) -> dict[str, str]:
    """What is copied: path on the machines: path on this machine. The token is among it."""
    files = {USUAL_FILE: profile.token_file or USUAL_FILE}
    if profile.wheel is not None:
        files[_place(profile.wheel)] = profile.wheel
    if profile.constraints is not None:
        files[_place(profile.constraints)] = profile.constraints
    return files | profile.files


def list_setup(profile: VmsProfile) -> list[str]:
    """Commands that prepare a machine; each may run again on a machine that is prepared."""
    commands = list(profile.setup)
    if profile.wheel is None:
        return commands
    environment = profile.environment
    pinned = f"--constraint {_place(profile.constraints)} " if profile.constraints is not None else ""
    packages = " ".join([_place(profile.wheel), *map(shlex.quote, profile.extra_packages)])
    commands.append(f"test -x {environment}/bin/pip || {profile.python} -m venv {environment}")
    commands.append(f"{environment}/bin/pip install --quiet {pinned}{packages}")
    return commands


def make_environment(profile: VmsProfile) -> dict[str, str]:
    """Variables of the processes of Ray."""
    low, high = profile.worker_ports
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
        "DECRED_WORKER_PORTS": f"{low}-{high}",
    }


def start_head(profile: VmsProfile, *options: str) -> str:
    """The command that starts the head. Its dashboard answers on the head alone: it is reached through ssh."""
    places = [f"--port={HEAD_PORT}", "--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD_PORT}"]
    trials = [] if profile.head_trials else ["--num-cpus=0", "--num-gpus=0"]
    return _start(profile, "--head", *places, *trials, *options)


def start_worker(profile: VmsProfile, head: str, *options: str) -> str:
    """The command that joins a machine to the head at the address `head`, an expression of the shell."""
    return _start(profile, f"--address={head}:{HEAD_PORT}", *options)


def stop(profile: VmsProfile) -> str:
    """The command that stops every Ray of the user on a machine."""
    return f"{profile.environment}/bin/ray stop"


def _start(profile: VmsProfile, *options: str) -> str:
    low, high = profile.worker_ports
    variables = " ".join(f"{key}={value}" for key, value in make_environment(profile).items())
    ports = f"--min-worker-port={low} --max-worker-port={high}"
    return f"{OPEN_FILES}; {variables} {profile.environment}/bin/ray start {' '.join(options)} {ports}"


def _place(file: str) -> str:
    return f"{FILES}/{PurePath(file).name}"
