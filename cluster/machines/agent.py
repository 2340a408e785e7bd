"""Starts, looks at and ends one machine's part of a cluster.

This file is sent to the machine's Python, which may have nothing but Ray: it uses the standard library alone. All
processes of a cluster carry its name in their environment, so that they are found again and ended by their ids, and
those of others are left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
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


def start(config: dict[str, Any]) -> dict[str, Any]:
    """Start Ray here and wait until it listens; `running` where it does already."""
    folder = Path(config["folder"])
    if _find(config):
        return {"state": "running"}
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
    log = folder / "ray.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ray"), "start", "--block", *config["options"]],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            cwd=folder,
        )
    deadline = time.monotonic() + config["seconds"]
    while time.monotonic() < deadline and process.poll() is None:
        if all(_listens(config["address"], port) for port in config["ports"]):
            return {"state": "started", "pid": process.pid}
        time.sleep(0.2)
    ended = process.poll() is not None
    stop(config)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return {"state": "failed", "ended": ended, "log": lines[-LOG_LINES:], "path": str(log)}


def stop(config: dict[str, Any]) -> dict[str, Any]:
    """End all processes of the cluster here: SIGTERM, and SIGKILL for those that stay."""
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
    return {"state": "running" if answering else "stopped", "processes": len(_find(config))}


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
