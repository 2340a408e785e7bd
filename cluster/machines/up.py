"""Bringing machines up as a cluster, and down again."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.machines import agent
from cluster.machines.profile import (
    DASHBOARD,
    GCS,
    HEAD_PORTS,
    NODE_PORTS,
    PORTS,
    WORKER_PORTS,
    Machine,
    MachinesProfile,
)

PORTS_VARIABLE = "DECRED_WORKER_PORTS"  # LOW-HIGH: where workers may listen
# With `minor` here, Ray takes machines whose Python differs in the patch; then it is left to decide.
PYTHON_MATCH = "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
RAYS_STOP_SECONDS = 2.0  # for Ray's own processes, which otherwise drain for half a minute
ANSWER_SECONDS = 60.0  # for a machine to answer beyond the time that its part of the work may take


class MachineError(ClusterError):
    """A machine does not do its part; the message names it."""


def bring_up(profile: MachinesProfile, name: str, token_file: Path) -> Iterator[str]:
    """Start the head, then all workers at the same time; a line for each machine as it is up.

    What runs already is left as it is, so that a command that was broken off may be repeated. The token is made where
    there is none. Raises a MachineError for the first machine that does not come up; the others stay.
    """
    token = ensure_token(token_file)
    head, *workers = profile.machines
    answer = _start(profile, name, head, token)
    yield _describe(head, answer)
    versions = None if PYTHON_MATCH in profile.env else answer["versions"]
    with ThreadPoolExecutor(max(1, len(workers))) as pool:
        started = [pool.submit(_start, profile, name, worker, token, versions) for worker in workers]
        for worker, future in zip(workers, started, strict=True):
            yield _describe(worker, future.result())


def take_down(profile: MachinesProfile, name: str) -> Iterator[str]:
    """End the cluster's processes on all machines, the workers' first; a line for each machine.

    Studies are to be stopped before: what runs is killed.
    """
    for machine in reversed(profile.machines):
        config = _config(profile, name, machine) | {"stop_seconds": RAYS_STOP_SECONDS}
        answer = _ask(machine, profile, "stop", config, RAYS_STOP_SECONDS)
        if answer["left"]:
            raise MachineError(f"machine {machine.address}: processes {answer['left']} cannot be ended; do it by hand")
        yield f"{machine.address}: {answer['ended']} processes ended"


def look_at(profile: MachinesProfile, name: str) -> Iterator[str]:
    """What runs on each machine; one that does not answer is named, and the others are looked at all the same."""
    for machine in profile.machines:
        try:
            answer = _ask(machine, profile, "status", _config(profile, name, machine), 0.0)
            yield f"{machine.address}: {answer['state']}, {answer['processes']} processes"
        except MachineError as error:
            yield str(error)


def ensure_token(file: Path) -> str:
    """The token in a file, which is made where it is missing, for its owner alone."""
    if not file.exists():
        write_token(file, secrets.token_hex(32))
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(f"token file {file} cannot be used ({error.strerror}); name another token_file") from None


def write_token(file: Path, token: str) -> Path:
    """Write a token for its owner alone; the file."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(token)
        draft.replace(file)
    except OSError as error:
        raise ClusterError(f"token file {file} cannot be used ({error.strerror}); name another token_file") from None
    return file


def _start(
    profile: MachinesProfile, name: str, machine: Machine, token: str, versions: dict[str, str | None] | None = None
) -> dict[str, Any]:
    """Start a machine; `versions` are those of the head, which have to be its own."""
    config = _config(profile, name, machine) | {
        "token": token,
        "seconds": profile.start_seconds,
        "versions": versions,
        "keeps": machine is not profile.head,  # a head that is started again would know no studies
    }
    answer = _ask(machine, profile, "start", config, profile.start_seconds + profile.stop_seconds)
    if answer["state"] == "other":
        assert versions is not None
        raise MachineError(f"machine {machine.address}: {profile.python} {_compare(answer['versions'], versions)}")
    if answer["state"] == "failed":
        why = "Ray ended" if answer["ended"] else f"Ray was not up after {profile.start_seconds:g} s"
        last = answer["log"][-1].strip() if answer["log"] else "nothing was logged"
        raise MachineError(f"machine {machine.address}: {why} ({last}); its log is there in {answer['path']}")
    return answer


def _compare(there: dict[str, str | None], head: dict[str, str | None]) -> str:
    """Which versions differ from the head's, and what to do."""
    others = [name for name in head if there[name] != head[name]]
    differing = " and ".join(f"{name} {there[name] or 'none'}, but {head[name]} on the head" for name in others)
    wanted = " and ".join(f"{name} {head[name]}" for name in others)
    return f"has {differing}; install {wanted} there, since all of a Ray cluster need the same to the patch"


def _describe(machine: Machine, answer: dict[str, Any]) -> str:
    return f"{machine.address}: {'runs already' if answer['state'] == 'running' else 'started'}"


def _config(profile: MachinesProfile, name: str, machine: Machine) -> dict[str, Any]:
    """What is sent to a machine's agent, without a token."""
    first, is_head = profile.first_port(name), machine is profile.head
    ports = f"{first + WORKER_PORTS}-{first + PORTS - 1}"
    return {
        "mark": name,
        "folder": f"{profile.temp}/decred-{name}",
        "address": machine.address,
        "ports": [first + GCS, first + DASHBOARD] if is_head else [first + NODE_PORTS["node-manager-port"]],
        "options": list(_list_options(profile, name, machine)),
        "env": profile.env | {PORTS_VARIABLE: ports, STOP_WAIT: f"{profile.stop_seconds:g}"},
        "stop_seconds": profile.stop_seconds,
    }


def _list_options(profile: MachinesProfile, name: str, machine: Machine) -> Iterator[str]:
    """The options of `ray start` on a machine."""
    first = profile.first_port(name)
    if machine is profile.head:
        yield from ("--head", "--dashboard-host=0.0.0.0", f"--temp-dir={profile.temp}/decred-{name}/ray")
        yield from (f"--{option}={first + port}" for option, port in HEAD_PORTS.items())
    else:
        yield f"--address={profile.head_address(name)}"
    yield from (f"--{option}={first + port}" for option, port in NODE_PORTS.items())
    yield from (f"--min-worker-port={first + WORKER_PORTS}", f"--max-worker-port={first + PORTS - 1}")
    yield from (f"--node-ip-address={machine.address}", "--disable-usage-stats")
    yield f"--object-store-memory={profile.object_store_mib * 1024**2}"
    if machine.cpus is not None:
        yield f"--num-cpus={machine.cpus}"
    if machine.gpus is not None:
        yield f"--num-gpus={machine.gpus}"


def _ask(
    machine: Machine, profile: MachinesProfile, action: str, config: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Have the machine's Python do something; what it answers. A MachineError where it does not answer."""
    # Over standard input, since the token must not be on a command line.
    request = json.dumps({"action": action, "config": config})
    program = f"{Path(agent.__file__).read_text(encoding='utf-8')}\nmain({request!r})\n"
    command = [*machine.command, profile.python, "-"]
    try:
        done = subprocess.run(
            command, input=program, capture_output=True, text=True, timeout=seconds + ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MachineError(
            f"machine {machine.address}: no answer within {seconds + ANSWER_SECONDS:g} s of `{_shorten(command)}`; "
            "see whether this command gives a Python there"
        ) from None
    except OSError as error:
        raise MachineError(
            f"machine {machine.address}: {command[0]} cannot be started ({error.strerror}); correct its `run`"
        ) from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise MachineError(
            f"machine {machine.address}: `{_shorten(command)}` failed ({said[-1]}); see whether it gives a Python there"
        )
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _shorten(command: Sequence[str]) -> str:
    return " ".join(command)
