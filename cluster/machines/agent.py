"""Starts, looks at and ends one machine's part of a cluster.

This file is sent to the machine's Python, which may have nothing but Ray: it uses the standard library alone. All
processes of a cluster carry its name in their environment, so that they are found again and ended by their ids, and
those of others are left alone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MARK = "DECRED_CLUSTER"  # in the environment of every process of a cluster
LOG_LINES = 5  # that are sent back where a start failed
# Of a worker whose Ray has ended: its raylet was killed, or its link was cut for so long that the head gave it up. It
# is started again, after half a second, then one, up to the longest pause, as long as the file `keep` is there.
KEEPER = """
import subprocess, sys, time
from pathlib import Path
keep, longest, command = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
first = pause = 0.5
while True:
    began = time.monotonic()
    code = subprocess.call(command)
    pause = first if time.monotonic() - began > longest else pause
    if not keep.exists():
        sys.exit(code)
    print(f"Ray ended with code {code}; it is started again in {pause:g} s", flush=True)
    time.sleep(pause)
    pause = min(2 * pause, longest)
    if not keep.exists():
        sys.exit(code)
"""
LONGEST_PAUSE = 30.0  # seconds; `ray start` takes a processor for a while each time, and the head may be gone for days


def start(config: dict[str, Any]) -> dict[str, Any]:
    """Start Ray here and wait until it listens; `running` where it does already, `other` where the head would refuse.

    The answer has the versions of Python and Ray here.
    """
    folder, log, keep = (Path(config["folder"]), *_find_files(config))
    versions = find_versions()
    if config["versions"] not in (None, versions):
        return {"state": "other", "versions": versions}
    if _find(config):
        if keep.exists() and not _wait(config):
            return _describe_failure(log, ended=False)
        return {"state": "running", "versions": versions}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(config["token"])
    _raise_open_files()
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= config["env"] | {
        MARK: config["mark"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{Path(sys.executable).parent}:{env.get('PATH', '')}",
    }
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *config["options"]]
    if config["keeps"]:
        command = [sys.executable, "-c", KEEPER, str(keep), str(LONGEST_PAUSE), *command]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            cwd=folder,
        )
    if _wait(config, process):
        keep.touch()
        return {"state": "started", "pid": process.pid, "versions": versions}
    ended = process.poll() is not None
    stop(config)
    return _describe_failure(log, ended)


def stop(config: dict[str, Any]) -> dict[str, Any]:
    """End all processes of the cluster here: SIGTERM, and SIGKILL for those that stay."""
    _, keep = _find_files(config)
    keep.unlink(missing_ok=True)
    found = _find(config)
    _signal(found, signal.SIGTERM)
    deadline = time.monotonic() + config["stop_seconds"]
    while (left := _find(config)) and time.monotonic() < deadline:
        time.sleep(0.2)
    _signal(left, signal.SIGKILL)
    while (left := _find(config)) and time.monotonic() < deadline + 5:
        time.sleep(0.1)
    return {"state": "stopped", "ended": len(found), "left": left}


def status(config: dict[str, Any]) -> dict[str, Any]:
    """How many processes of the cluster there are, and which of its ports answer."""
    answering = [port for port in config["ports"] if _listens(config["address"], port)]
    found, (_, keep) = _find(config), _find_files(config)
    stopped = "starting again" if found and keep.exists() else "stopped"
    return {"state": "running" if answering else stopped, "processes": len(found)}


def find_versions() -> dict[str, str | None]:
    """The versions that have to be those of the head, to the patch; None where Ray is missing."""
    try:
        ray = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        ray = None
    return {"Python": platform.python_version(), "Ray": ray}


def find_processes(mark: str, folder: Path) -> list[int]:
    """The ids of all living processes of the cluster, this one left out: those that carry its mark.

    Some of Ray's write their title over their environment; these are in the cluster's folder.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (_is_marked(entry, mark) or _is_rays(entry, folder)) and not _is_zombie(entry):
                found.append(int(entry.name))
    return found


def _find_files(config: dict[str, Any]) -> tuple[Path, Path]:
    """The log of Ray's start, and the file that has Ray started again when it ends."""
    folder = Path(config["folder"])
    return folder / "ray.log", folder / "keep"


def _wait(config: dict[str, Any], process: subprocess.Popen[bytes] | None = None) -> bool:
    """Whether Ray listens within the time of a start; no longer than its process lives."""
    deadline = time.monotonic() + config["seconds"]
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if all(_listens(config["address"], port) for port in config["ports"]):
            return True
        time.sleep(0.2)
    return False


def _describe_failure(log: Path, ended: bool) -> dict[str, Any]:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return {"state": "failed", "ended": ended, "log": lines[-LOG_LINES:], "path": str(log)}


def _is_marked(entry: Path, mark: str) -> bool:
    return f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")


def _is_rays(entry: Path, folder: Path) -> bool:
    title = (entry / "cmdline").read_bytes()
    return title.startswith(b"ray::") and (entry / "cwd").readlink().is_relative_to(folder)


def _is_zombie(entry: Path) -> bool:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _find(config: dict[str, Any]) -> list[int]:
    return find_processes(config["mark"], Path(config["folder"]))


def _signal(processes: list[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _raise_open_files() -> None:
    """Ray needs many open files; more than the hard limit is not to be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0):
        return True
    return False


ACTIONS = {"start": start, "stop": stop, "status": status}


def main(request: str) -> None:
    """Do what the request asks for, and print what came of it as the last line."""
    asked = json.loads(request)
    print(json.dumps(ACTIONS[asked["action"]](asked["config"])))
