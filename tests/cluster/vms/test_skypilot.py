"""The file of SkyPilot: its keys, and its script, which a shell runs with a recorder in Ray's place."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.vms.profile import VmsProfile
from cluster.vms.skypilot import NODE_PORT, make_skypilot

Make = Callable[..., VmsProfile]
# Of https://docs.skypilot.co/en/latest/reference/yaml-spec.html; sky/utils/schemas.py of SkyPilot 0.14.1 has the same.
TASK_KEYS = {"name", "num_nodes", "resources", "file_mounts", "setup", "run", "envs", "secrets", "workdir"}
RESOURCE_KEYS = {"infra", "accelerators", "cpus", "memory", "use_spot", "disk_size", "image_id", "autostop", "ports"}


def run_script(task: dict[str, Any], folder: Path, rank: int) -> str:
    """Run the script of one machine; what it started of Ray, one command a line."""
    commands, started = folder / "bin", folder / "started"
    commands.mkdir(exist_ok=True)
    for name, text in {"ray": f'echo "$@" >> {started}', "sleep": "true"}.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    env = {"PATH": f"{commands}:{os.environ['PATH']}", "SKYPILOT_NODE_RANK": str(rank)}
    env["SKYPILOT_NODE_IPS"] = "127.0.0.2\n127.0.0.3"
    subprocess.run(["bash", "-c", task["run"]], env=env, check=True, timeout=100, cwd=folder)
    return started.read_text() if started.exists() else ""


def test_the_file_has_keys_of_skypilot_alone(make_profile: Make) -> None:
    task = make_skypilot(make_profile("skypilot", env={"GLOO_SOCKET_IFNAME": "eth0"}), "speech")
    assert set(task) <= TASK_KEYS
    assert set(task["resources"]) <= RESOURCE_KEYS
    assert task["num_nodes"] == 3
    assert task["resources"]["accelerators"] == "L4:4"
    assert task["envs"] == {"GLOO_SOCKET_IFNAME": "eth0"}


def test_what_the_profile_leaves_open_is_left_to_skypilot(make_profile: Make) -> None:
    profile = make_profile("skypilot", provider={"type": "skypilot"}, head_trials=True)
    assert set(make_skypilot(profile, "speech")["resources"]) == {"use_spot", "disk_size", "autostop"}


def test_the_first_machine_is_the_head_and_runs_the_command(make_profile: Make, tmp_path: Path) -> None:
    profile = make_profile("skypilot", environment=str(tmp_path))
    task = make_skypilot(profile, "speech", "echo run > study")
    assert run_script(task, tmp_path, 0).startswith("start --head --port=6379")
    assert (tmp_path / "study").read_text() == "run\n"


def test_the_others_join_the_head_and_run_no_command(make_profile: Make, tmp_path: Path) -> None:
    profile = make_profile("skypilot", environment=str(tmp_path))
    task = make_skypilot(profile, "speech", "echo run > study")
    assert run_script(task, tmp_path, 1).startswith("start --address=127.0.0.2:6379")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_on_which_our_ray_runs_is_left_as_it_is(rank: int, make_profile: Make, tmp_path: Path) -> None:
    task = make_skypilot(make_profile("skypilot", environment=str(tmp_path)), "speech")
    with socket.socket() as node:
        node.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # another process listens there, which is as good
            node.bind(("127.0.0.1", NODE_PORT))
            node.listen(700)
        assert run_script(task, tmp_path, rank) == ""


def test_skypilots_own_ray_is_never_stopped(make_profile: Make) -> None:
    task = make_skypilot(make_profile("skypilot"), "speech", "true")
    assert "ray stop" not in task["run"] + task["setup"]
    assert "6380" not in task["run"]


def test_a_failed_setup_ends_the_start(make_profile: Make, tmp_path: Path) -> None:
    task = make_skypilot(make_profile("skypilot", setup=["false", f"touch {tmp_path}/after"]), "speech")
    shell = subprocess.run(["bash", "-c", task["setup"]], check=False)
    assert shell.returncode != 0
    assert not (tmp_path / "after").exists()


def test_other_machines_are_refused(make_profile: Make) -> None:
    with pytest.raises(ClusterError, match=r"is aws, but SkyPilot's file needs provider\.type skypilot"):
        make_skypilot(make_profile("aws"), "speech")
