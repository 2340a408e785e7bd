"""The real batch script in a real Slurm, with a real Ray on two nodes: start, end, requeue and cancel."""

from __future__ import annotations

import json
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from ray_head import wait_until

from cluster.errors import ClusterError
from cluster.slurm.commands import cancel, find_cluster, find_jobs, find_state, requeue, submit
from cluster.slurm.excluded import name_excluded
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import address_file, log_file, make_script

SECONDS = 240.0  # that any step of a job may take
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# What the nodes' Rays say of themselves, and where a study would find its cluster.
COUNT = """
import json, os, pathlib, ray, sys
head, result = sys.argv[1:]
ray.init(log_to_driver=False)
wanted = ("SLURMD_NODENAME", "DECRED_WORKER_PORTS", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "RAY_AUTH_MODE", "NOTE")

@ray.remote(num_cpus=2)
def look():
    return {name: os.environ.get(name) for name in wanted}

nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeName"])
at = [ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
found = {
    "head": head,
    "ray_address": os.environ["RAY_ADDRESS"],
    "names": [node["NodeName"] for node in nodes],
    "cpus": ray.cluster_resources()["CPU"],
    "env": ray.get([look.options(scheduling_strategy=strategy).remote() for strategy in at]),
    "secret": os.environ["SECRET"],
}
pathlib.Path(result).write_text(json.dumps(found))
while not pathlib.Path(result + ".read").exists():
    __import__("time").sleep(0.1)
sys.exit(7)
"""

# A study's driver in short: it leaves a second after SIGTERM, as interrupted; its fourth start is its last.
DRIVER = """
import os, ray, signal, sys, time
restart, log = os.environ.get("SLURM_RESTART_COUNT", "0"), open(sys.argv[1], "a", buffering=1)
ray.init(log_to_driver=False)
signals = []
signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
print("start", restart, file=log)
while restart != "3" and not signals:
    time.sleep(0.05)
time.sleep(1)
print("end", restart, "signals", len(signals), file=log)
sys.exit(130 if signals else 0)
"""


class Job:
    """A submitted script: its id, what it has written, and what it leaves behind."""

    def __init__(self, profile: SlurmProfile, command: list[str] | None, env: dict[str, str] | None = None) -> None:
        self.profile = profile
        self.id = submit(profile, make_script(profile, "demo", command), env)

    @property
    def log(self) -> str:
        file = Path(log_file(self.profile, "demo", self.id))
        return file.read_text() if file.exists() else ""

    def wait_for(self, words: str, file: Path | None = None) -> None:
        def is_written() -> bool:
            if file is None:
                return words in self.log
            return file.exists() and words in file.read_text()

        assert wait_until(is_written, SECONDS), f"{words!r} is not in:\n{self.log}"

    def left(self) -> set[str]:
        """Files of the cluster but for the log, folders of Ray, and processes of the job."""
        marks = f"DECRED_CLUSTER=demo/{self.id}/".encode()
        found = {file.name for file in Path(self.profile.storage, ".clusters").iterdir() if file.suffix != ".log"}
        found |= {str(folder) for folder in Path(self.profile.temp).glob(f"r{self.id}.*")}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environ, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marks in environ or f"/r{self.id}.".encode() in command:
                found.add(command.replace(b"\0", b" ").decode())
        return found


@pytest.fixture
def commands_find(slurm: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cluster, as the commands of `cluster.slurm` find it: by PATH and SLURM_CONF."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.env[name])
    return slurm


def python(code: str, tmp_path: Path, *args: str) -> list[str]:
    program = tmp_path / "command.py"
    program.write_text(code)
    return [sys.executable, str(program), *args]


def test_a_command_finds_ray_on_all_nodes_and_its_exit_code_is_the_jobs(
    commands_find: Any, profile: SlurmProfile, tmp_path: Path
) -> None:
    profile = profile.model_copy(update={"env": {"NOTE": "it's $HOME"}})
    result = tmp_path / "found.json"
    job = Job(profile, python(COUNT, tmp_path, "{head}", str(result)), {"SECRET": "p'w \n$x"})
    assert find_jobs(profile, "demo") == [job.id]
    job.wait_for("}", result)
    cluster = find_cluster(profile, "demo")
    assert cluster is not None
    assert cluster.job == job.id
    assert find_state(profile, job.id) == "RUNNING"
    for file in (address_file(profile, "demo"), cluster.token_file):
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(file).parent.stat().st_mode) == 0o700
    token = Path(cluster.token_file).read_text()
    Path(f"{result}.read").touch()
    assert commands_find.exit_code(job.id) == 7, job.log
    found = json.loads(result.read_text())
    assert (found["names"], found["cpus"], found["secret"]) == (["node1", "node2"], 4.0, "p'w \n$x")
    assert found["head"] == found["ray_address"] == cluster.head
    assert cluster.head.startswith("127.0.0.11:")
    node1, node2 = found["env"]
    assert (node1["SLURMD_NODENAME"], node2["SLURMD_NODENAME"]) == ("node1", "node2")
    assert node1["GLOO_SOCKET_IFNAME"] == node2["NCCL_SOCKET_IFNAME"] == "lo"
    assert node1["NOTE"] == node2["NOTE"] == "it's $HOME"
    first, second = (range(*map(int, node["DECRED_WORKER_PORTS"].split("-"))) for node in (node1, node2))
    assert len(first) == len(second) == 63
    assert not set(first) & set(second)
    assert len(token) == 64
    assert token not in job.log
    assert job.left() == set()
    assert find_state(profile, job.id) == "FAILED"
    assert find_jobs(profile, "demo") == []


def test_a_warned_or_preempted_job_runs_on_after_it_is_requeued(
    commands_find: Any, profile: SlurmProfile, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    job = Job(profile, python(DRIVER, tmp_path, str(record)))
    job.wait_for("start 0", record)
    requeue(profile, job.id)  # what Slurm's --signal does: SIGTERM to the batch shell alone
    commands_find.start_at_once(job.id)
    job.wait_for("start 1", record)
    commands_find.call("scontrol", "requeue", job.id)  # what a preemption does: SIGTERM to all, and Slurm requeues
    commands_find.start_at_once(job.id)
    job.wait_for("start 2", record)
    commands_find.call("scancel", "--signal=TERM", job.id)  # what a preemption with a GraceTime does: SIGTERM to steps
    commands_find.start_at_once(job.id)
    assert commands_find.exit_code(job.id) == 0, job.log
    assert record.read_text().splitlines() == [
        "start 0",
        "end 0 signals 1",
        "start 1",
        "end 1 signals 1",
        "start 2",
        "end 2 signals 1",
        "start 3",
        "end 3 signals 0",
    ]
    # The log goes on, and the script itself has requeued the job where Slurm had not.
    assert [words in job.log for words in (" begins on", "restart 1,", "restart 2,", "restart 3,")] == [True] * 4
    assert job.log.count(": requeued; Slurm starts it again") == 2
    assert job.left() == set()


def test_a_cancelled_job_stops_its_command_once_and_stays_cancelled(
    commands_find: Any, profile: SlurmProfile, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    job = Job(profile, python(DRIVER, tmp_path, str(record)))
    job.wait_for("start 0", record)
    cancel(profile, job.id)
    job.wait_for("end 0", record)
    assert wait_until(lambda: not commands_find.call("squeue", "--noheader"), SECONDS)
    assert record.read_text().splitlines() == ["start 0", "end 0 signals 1"]
    assert find_state(profile, job.id) == "CANCELLED"
    assert "requeued; Slurm" not in job.log
    assert job.left() == set()


def test_without_a_command_the_cluster_is_held_until_it_is_cancelled(
    commands_find: Any, profile: SlurmProfile, tmp_path: Path
) -> None:
    job = Job(profile.model_copy(update={"nodes": 1}), None)
    job.wait_for("Ray is up on 1 nodes")
    cluster = find_cluster(profile, "demo")
    assert cluster is not None
    host, _, port = cluster.dashboard.removeprefix("http://").partition(":")
    socket.create_connection((host, int(port)), 10).close()
    cancel(profile, job.id)
    assert wait_until(lambda: not commands_find.call("squeue", "--noheader"), SECONDS)
    assert find_cluster(profile, "demo") is None
    assert job.left() == set()


def test_a_node_on_which_ray_does_not_start_is_named_and_ends_the_job(
    commands_find: Any, profile: SlurmProfile, tmp_path: Path
) -> None:
    job = Job(profile.model_copy(update={"options": ("--hold",)}), ["touch", str(tmp_path / "ran")])
    first = 10240 + (2 * int(job.id) + 1) % 88 * 256  # the ports of the nodes after the first one
    with socket.create_server(("127.0.0.12", first + 4)):
        commands_find.call("scontrol", "release", job.id)
        assert commands_find.exit_code(job.id) == 1
    assert f"node2: port {first + 4} is another program's; submit again, for a new job has other ports" in job.log
    assert "node1: Ray did not start on all nodes; the lines above name them and say why" in job.log
    assert not (tmp_path / "ran").exists()
    assert job.left() == set()


def test_waiting_for_nodes_ends_after_the_profiles_seconds(
    commands_find: Any, profile: SlurmProfile, tmp_path: Path
) -> None:
    job = Job(profile.model_copy(update={"wait_seconds": 1}), ["touch", str(tmp_path / "ran")])
    assert commands_find.exit_code(job.id) == 1
    assert "Ray's head isn't up on node1 after 1 s" in job.log
    assert not (tmp_path / "ran").exists()
    assert job.left() == set()


def test_sbatch_refuses_in_its_own_words(commands_find: Any, profile: SlurmProfile) -> None:
    with pytest.raises(ClusterError, match=r"sbatch on this machine refuses \(.*invalid partition specified: nowhere"):
        Job(profile.model_copy(update={"partition": "nowhere"}), ["true"])


def test_slurm_places_no_job_on_a_node_that_is_excluded_by_its_address(
    commands_find: Any, profile: SlurmProfile
) -> None:
    named = name_excluded(profile.model_copy(update={"exclude": ("127.0.0.11",)}))
    assert named.exclude == ("node1",)
    with pytest.raises(ClusterError, match=r"sbatch on this machine refuses \(.*[Nn]ode"):
        Job(named, ["true"])  # it asks for both


def test_a_job_that_slurm_does_not_know_is_unknown(commands_find: Any, profile: SlurmProfile) -> None:
    assert find_state(profile, "99999999") == "UNKNOWN"
