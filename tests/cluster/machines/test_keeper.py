"""A worker's Ray that ends is started again until its cluster is taken down; versions unlike the head's are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from free_ports import choose_port

from cluster.machines import agent
from cluster.machines.profile import MachinesProfile
from cluster.machines.up import PYTHON_MATCH, MachineError, bring_up, look_at, take_down

# In place of `ray`: writes its process id into a file, listens on each port that an option of those names gives.
RAY = """#!{python}
import os, socket, sys, time
with open({started!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
names = ("--port", "--dashboard-port", "--node-manager-port")
servers = []
for option in sys.argv:
    name, _, port = option.partition("=")
    if name in names:
        servers.append(socket.create_server(("127.0.0.1", int(port))))
time.sleep(600)
"""
WAIT_SECONDS = 60.0


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The file with the ids of all stand-ins for Ray that were started; the Python beside them is `bin/python`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "bin" / "ray").write_text(RAY.format(python=sys.executable, started=str(tmp_path / "started")))
    (tmp_path / "bin" / "ray").chmod(0o755)
    return tmp_path / "started"


@pytest.fixture
def config(tmp_path: Path, started: Path) -> Iterator[dict[str, Any]]:
    """What a worker's agent is sent; its processes are gone after the test."""
    port = choose_port()
    config = {
        "mark": tmp_path.name,
        "folder": str(tmp_path / "cluster"),
        "address": "127.0.0.1",
        "ports": [port],
        "options": [f"--node-manager-port={port}"],
        "env": {},
        "token": "planted",
        "seconds": WAIT_SECONDS,
        "stop_seconds": 5.0,
        "versions": None,
        "keeps": True,
    }
    yield config
    ask("stop", config, tmp_path)


def ask(action: str, config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """What the agent answers, run as on a machine."""
    request = json.dumps({"action": action, "config": config})
    program = f"{Path(agent.__file__).read_text()}\nmain({request!r})"
    python = str(tmp_path / "bin" / "python")
    done = subprocess.run([python, "-"], input=program, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def wait_until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def read_ids(started: Path) -> list[int]:
    return [int(line) for line in started.read_text().split()]


def test_a_workers_ray_that_is_killed_is_started_again_until_the_cluster_is_taken_down(
    config: dict[str, Any], started: Path, tmp_path: Path
) -> None:
    assert ask("start", config, tmp_path)["state"] == "started"
    os.kill(read_ids(started)[0], signal.SIGKILL)
    wait_until(lambda: len(read_ids(started)) == 2, "it was not started again")
    assert ask("start", config, tmp_path)["state"] == "running", "it is waited for until it listens"
    assert ask("status", config, tmp_path) == {"state": "running", "processes": 2}
    log = (tmp_path / "cluster" / "ray.log").read_text()
    assert "Ray ended with code -9; it is started again in " in log
    assert ask("stop", config, tmp_path) == {"state": "stopped", "ended": 2, "left": []}
    assert agent.find_processes(config["mark"], tmp_path / "cluster") == []
    assert len(read_ids(started)) == 2


def test_a_heads_ray_that_is_killed_stays_down(config: dict[str, Any], started: Path, tmp_path: Path) -> None:
    config["keeps"] = False
    assert ask("start", config, tmp_path)["state"] == "started"
    os.kill(read_ids(started)[0], signal.SIGKILL)
    wait_until(lambda: not agent.find_processes(config["mark"], tmp_path / "cluster"), "something is left")
    assert ask("status", config, tmp_path) == {"state": "stopped", "processes": 0}


def plant_ray(tmp_path: Path, version: str) -> str:
    """A command before others that gives a Python this version of Ray."""
    folder = tmp_path / version
    (folder / f"ray-{version}.dist-info").mkdir(parents=True)
    (folder / f"ray-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: ray\nVersion: {version}\n"
    )
    return f"env PYTHONPATH={folder}"


@pytest.mark.parametrize("env", [{}, {PYTHON_MATCH: "minor"}])
def test_a_machine_with_other_versions_than_the_head_is_named_unless_the_user_lets_ray_decide(
    env: dict[str, str], started: Path, tmp_path: Path
) -> None:
    name = f"{tmp_path.name}-{len(env)}"
    profile = MachinesProfile.model_validate(
        {
            "kind": "machines",
            "storage": "/s",
            "head": {"address": "127.0.0.1", "run": plant_ray(tmp_path, "2.60.0")},
            "workers": [{"address": "127.0.0.1", "run": plant_ray(tmp_path, "2.59.1")}],
            "python": str(tmp_path / "bin" / "python"),
            "temp": str(tmp_path),
            "env": env,
        }
    )
    message = (
        rf"machine 127\.0\.0\.1: {profile.python} has Ray 2\.59\.1, but 2\.60\.0 on the head; install Ray 2\.60\.0"
    )
    try:
        if env:
            assert list(bring_up(profile, name, tmp_path / "token"))[1] == "127.0.0.1: runs already"
        else:
            with pytest.raises(
                MachineError, match=f"^{message} there, since all of a Ray cluster need the same to the patch$"
            ):
                list(bring_up(profile, name, tmp_path / "token"))
        assert next(iter(look_at(profile, name))) == "127.0.0.1: running, 1 processes"
    finally:
        list(take_down(profile, name))
