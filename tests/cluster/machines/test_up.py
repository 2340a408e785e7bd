"""Starting a machine's part of a cluster; real Rays on several hosts are in tests/end_to_end/test_cluster.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.errors import ClusterError
from cluster.machines import agent
from cluster.machines.profile import BLOCKS, FIRST_PORT, PORTS, Machine, MachinesProfile
from cluster.machines.up import MachineError, bring_up, ensure_token, look_at, take_down


def make_profile(tmp_path: Path, **values: object) -> MachinesProfile:
    head = {"address": "127.0.0.1", "run": "env"}  # runs the rest of the words here
    content = {"kind": "machines", "storage": "/s", "head": head, "python": sys.executable, "temp": str(tmp_path)}
    return MachinesProfile.model_validate(content | {"start_seconds": 60.0} | values)


def make_python(tmp_path: Path, ray: str) -> str:
    """A Python beside which `ray` is the given shell program."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "bin" / "ray").write_text(f"#!/bin/sh\n{ray}\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    return str(tmp_path / "bin" / "python")


@given(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True))
def test_the_ports_of_a_name_are_a_block_of_their_own_below_the_ephemeral_ones(name: str) -> None:
    profile = make_profile(Path("/tmp"))
    first = profile.first_port(name)
    assert first == profile.first_port(name)
    assert (first - FIRST_PORT) % PORTS == 0
    assert FIRST_PORT <= first < FIRST_PORT + BLOCKS * PORTS <= 32_768


def test_a_head_that_ends_at_once_is_one_line_with_what_it_said(tmp_path: Path) -> None:
    python = make_python(tmp_path, "echo the port is in use >&2; exit 1")
    profile = make_profile(tmp_path, python=python)
    with pytest.raises(
        MachineError, match=r"^machine 127.0.0.1: Ray ended \(the port is in use\); its log is there in"
    ):
        list(bring_up(profile, "planted", tmp_path / "token"))


def test_a_head_that_never_listens_is_ended_and_named(tmp_path: Path) -> None:
    profile = make_profile(tmp_path, python=make_python(tmp_path, "echo waiting; exec sleep 600"), start_seconds=1.0)
    message = r"^machine 127.0.0.1: Ray was not up after 1 s \((waiting|nothing was logged)\)"
    with pytest.raises(MachineError, match=message):
        list(bring_up(profile, "never-up", tmp_path / "token"))
    assert agent.find_processes("never-up", tmp_path / "decred-never-up") == []


def test_the_token_reaches_a_machine_on_no_command_line_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    python = make_python(tmp_path, f'echo "$@" > {seen}; stat -c %a "$RAY_AUTH_TOKEN_PATH" >> {seen}; exit 1')
    with pytest.raises(MachineError):
        list(bring_up(make_profile(tmp_path, python=python), "quiet", tmp_path / "token"))
    token = (tmp_path / "token").read_text()
    assert len(token) == 64
    assert token not in seen.read_text()
    assert seen.read_text().splitlines()[-1] == "600"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert ensure_token(tmp_path / "token") == token, "it is made once"


def assert_first_alone_is_ended(
    name: str, tmp_path: Path, mine: subprocess.Popen[bytes], other: subprocess.Popen[bytes]
) -> None:
    """Taking the cluster down ends the first process and leaves the second; then both are gone."""
    try:
        lines = list(take_down(make_profile(tmp_path), name))
        assert lines == ["127.0.0.1: 1 processes ended"]
        assert mine.wait(10) == -15
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_only_processes_with_the_name_of_the_cluster_are_ended(tmp_path: Path) -> None:
    def start(mark: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "600"], env=os.environ | {agent.MARK: mark})

    assert_first_alone_is_ended("mine", tmp_path, start("mine"), start("mine-too"))


def test_a_process_of_ray_that_has_written_its_title_over_its_environment_is_found(tmp_path: Path) -> None:
    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(["ray::IDLE", "-c", "sleep 600; :"], executable="/bin/sh", cwd=folder, env={})

    mine, other = start(tmp_path / "decred-titled"), start(tmp_path / "decred-titled-too")
    assert_first_alone_is_ended("titled", tmp_path, mine, other)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    stubborn = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {agent.MARK: "stubborn"}, stdout=subprocess.PIPE
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    began = time.monotonic()
    assert list(take_down(make_profile(tmp_path), "stubborn")) == ["127.0.0.1: 1 processes ended"]
    assert stubborn.wait(10) == -9
    assert time.monotonic() - began > 1.0, "it had time to end by itself"
    stubborn.stdout.close()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("sh -c 'echo no route to host >&2; exit 255'", r"machine 10.0.0.9: `sh -c .*` failed \(no route to host\)"),
        (
            "no-such-ssh",
            r"machine 10.0.0.9: no-such-ssh cannot be started \(No such file or directory\); correct its `run`",
        ),
    ],
)
def test_a_machine_that_is_not_reached_is_named_and_the_others_are_looked_at(
    tmp_path: Path, run: str, message: str
) -> None:
    profile = make_profile(tmp_path, workers=[{"address": "10.0.0.9", "run": run}])
    first, second = look_at(profile, "absent")
    assert first == "127.0.0.1: stopped, 0 processes"
    with pytest.raises(MachineError, match=message):
        list(take_down(profile, "absent"))
    assert second.startswith("machine 10.0.0.9: ")


def test_ssh_is_what_reaches_a_machine_that_says_nothing_else() -> None:
    assert Machine(address="node1").command == ["ssh", "-o", "BatchMode=yes", "node1"]
    assert Machine(address="node1", run="ssh -p 2222 me@node1").command == ["ssh", "-p", "2222", "me@node1"]


def test_a_token_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match=r"token file .*/file/token cannot be used \(File exists\)"):
        ensure_token(tmp_path / "file" / "token")


def test_what_is_sent_to_a_machine_needs_the_standard_library_alone(tmp_path: Path) -> None:
    source = Path(agent.__file__).read_text()
    request = json.dumps(
        {"action": "status", "config": {"mark": "nobody", "folder": "/nowhere", "address": "127.0.0.1", "ports": []}}
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"],
        input=f"{source}\nmain({request!r})",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"state": "stopped", "processes": 0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"python": "python3"}, "must be an absolute path"),
        ({"ports": 80}, "must leave room for 100 ports"),
        ({"workers": [{"adress": "node1"}]}, "adress"),
        ({"tunnel": "ssh -N -L 8265:head:8265 me@login"}, r"lacks \{port\}"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_profile(tmp_path, **values)
