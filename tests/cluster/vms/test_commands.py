"""The commands on the machines: a shell runs those that prepare one, and Ray's own parser reads those that start it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.scripts.scripts import start as ray_start

from cluster.vms.commands import list_files, list_setup, start_head, start_worker
from cluster.vms.profile import VmsProfile

Make = Callable[..., VmsProfile]


def parse_start(command: str) -> dict[str, Any]:
    """The options of `ray start` in a command, as Ray reads them; a click.UsageError where it would refuse one."""
    words = shlex.split(command)
    return ray_start.make_context("start", words[words.index("start") + 1 :]).params


def run_on_machine(home: Path, command: str) -> None:
    """Run a command as `ray up` does, in a shell with this home folder."""
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(["bash", "-c", command], env=env, check=True, timeout=100)


def test_setup_makes_an_environment_with_the_wheel_and_may_run_again(make_profile: Make, tmp_path: Path) -> None:
    home = tmp_path / "home"
    profile = make_profile("local", python=sys.executable, setup=["echo run >> ~/runs"])
    for there, here in list_files(profile).items():
        target = home / there.removeprefix("~/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here, target)
    for _ in range(2):
        for command in list_setup(profile):
            run_on_machine(home, command)
    subprocess.run([home / "decred-study/bin/python", "-c", "import decred_stand_in"], check=True)
    assert (home / "runs").read_text().split() == ["run", "run"]


def test_further_packages_reach_pip_as_one_word_each(make_profile: Make) -> None:
    command = list_setup(make_profile("local", extra_packages=["psycopg[binary]>=3.2"]))[-1]
    assert shlex.split(command)[-1] == "psycopg[binary]>=3.2"


def test_without_a_wheel_setup_is_the_profiles_alone(make_profile: Make) -> None:
    profile = make_profile("local", wheel=None, constraints=None, setup=["make environment"])
    assert list_setup(profile) == ["make environment"]
    assert list(list_files(profile)) == ["~/.ray/auth_token"]


def test_ray_reads_the_options_that_start_a_head(make_profile: Make) -> None:
    options = parse_start(start_head(make_profile("local", worker_ports=[20000, 20999])))
    assert (options["head"], options["port"], options["num_cpus"], options["num_gpus"]) == (True, 6379, 0, 0)
    assert (options["min_worker_port"], options["max_worker_port"]) == (20000, 20999)
    assert options["dashboard_host"] == "127.0.0.1"


def test_a_head_that_runs_trials_offers_what_it_has(make_profile: Make) -> None:
    options = parse_start(start_head(make_profile("local", head_trials=True)))
    assert (options["num_cpus"], options["num_gpus"]) == (None, None)


def test_ray_reads_the_options_that_start_a_worker(make_profile: Make) -> None:
    options = parse_start(start_worker(make_profile("local"), "10.0.0.1"))
    assert (options["head"], options["address"]) == (False, "10.0.0.1:6379")
    assert (options["min_worker_port"], options["max_worker_port"]) == (20000, 29999)


@pytest.mark.parametrize("head", [True, False])
def test_rays_processes_get_the_token_mode_the_ports_and_time_to_end(
    head: bool, make_profile: Make, tmp_path: Path
) -> None:
    ray = tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text("#!/bin/sh\nenv\n")  # in Ray's place: it prints the variables that it gets
    ray.chmod(0o755)
    profile = make_profile("local", environment=str(tmp_path), worker_ports=[20000, 20999])
    command = start_head(profile) if head else start_worker(profile, "10.0.0.1")
    shell = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    variables = dict(line.split("=", 1) for line in shell.stdout.splitlines() if "=" in line)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "60"
    assert variables["DECRED_WORKER_PORTS"] == "20000-20999"
