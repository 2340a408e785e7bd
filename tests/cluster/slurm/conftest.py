"""A Slurm of the tests' own: a controller and two nodes, as processes of this machine on loopback addresses."""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import choose_port

from cluster.slurm.profile import SlurmProfile

DAEMONS = ("slurmctld", "slurmd")
PATH = f"{os.environ['PATH']}:/usr/sbin"
NODES = {"node1": "127.0.0.11", "node2": "127.0.0.12"}
SECONDS = 180.0  # that anything in a job may take: two Rays start on two cores

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SlurmdParameters=config_overrides
FirstJobId={first_job}
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; its commands find it by SLURM_CONF."""

    env: dict[str, str]

    def call(self, *command: str) -> str:
        """What one of Slurm's commands writes."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def state(self, job: str) -> str:
        shown = self.call("scontrol", "show", "job", "--oneliner", job)
        return shown.partition("JobState=")[2].split()[0]

    def exit_code(self, job: str) -> int:
        """The exit code of a job that has ended."""
        wait_until(lambda: self.state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), f"job {job} ended")
        shown = self.call("scontrol", "show", "job", "--oneliner", job)
        return int(shown.partition(" ExitCode=")[2].split(":")[0])

    def start_at_once(self, job: str) -> None:
        """Start a requeued job in five seconds, which Slurm itself does after two minutes at the earliest.

        In the second in which a node has ended a job, it refuses the same job's next start.
        """

        def is_accepted() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now+5")
                return True
            return False

        wait_until(lambda: self.state(job) == "PENDING", f"job {job} is queued again")
        wait_until(is_accepted, f"job {job} may start")


def wait_until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, f"not within {SECONDS:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """The cluster, for all tests that need one."""
    if not all(shutil.which(name, path=PATH) for name in (*DAEMONS, "sbatch")):
        pytest.skip("NOT TESTED: Slurm is not installed")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "RAY_"))}
    env |= {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    running: list[subprocess.Popen[bytes]] = []
    try:
        yield _start(folder, env, running)
    finally:
        _stop(env, running)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, env: dict[str, str], running: list[subprocess.Popen[bytes]]) -> Slurm:
    listed = [
        f"NodeName={name} NodeAddr={address} NodeHostname={socket.gethostname()} Port={choose_port()} CPUs=2"
        for name, address in NODES.items()
    ]
    conf = folder / "slurm.conf"
    conf.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            port=choose_port(),
            user=getpass.getuser(),
            folder=folder,
            first_job=random.SystemRandom().randrange(1000, 100_000),  # a job's ports follow from its id
            nodes="\n".join(listed),
        )
    )
    (folder / "state").mkdir()
    commands = [["slurmctld", "-D", "-i"], *(["slurmd", "-D", "-N", name] for name in NODES)]
    for program, *options in commands:
        with (folder / "daemons.log").open("ab") as log:
            program = str(shutil.which(program, path=PATH))
            running.append(subprocess.Popen([program, *options, "-f", str(conf)], env=env, stdout=log, stderr=log))

    def are_idle() -> bool:
        assert all(process.poll() is None for process in running), (folder / "daemons.log").read_text()
        shown = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%D"], env=env, capture_output=True, text=True)
        return shown.stdout.strip() == str(len(NODES))

    wait_until(are_idle, "Slurm's nodes are idle")
    return Slurm(env)


def _stop(env: dict[str, str], running: list[subprocess.Popen[bytes]]) -> None:
    """Cancel what a failed test has left, and end the daemons."""
    if len(running) > len(NODES) and all(process.poll() is None for process in running):
        subprocess.run(["scancel", "--user", getpass.getuser()], env=env, timeout=60)
        with contextlib.suppress(AssertionError):
            wait_until(
                lambda: not subprocess.run(["squeue", "-h"], env=env, capture_output=True).stdout, "no job is left"
            )
    for process in running:
        process.terminate()
    for process in running:
        process.wait()


@pytest.fixture
def profile(tmp_path: Path) -> SlurmProfile:
    """Two nodes, with this environment's Python; the storage exists."""
    storage = tmp_path / "storage"
    storage.mkdir()
    return SlurmProfile(
        kind="slurm", storage=str(storage), nodes=2, cpus_per_node=2, time="10:00", python=sys.executable
    )
