"""The profile of a Slurm cluster: what a job asks Slurm for, and what its nodes need before Ray starts."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from cluster.profiles.profile import AbsolutePath, Profile

# Ray's sockets lie in FOLDER/rJOB.NODE.XXXX/session_DATE_TIME_PID/sockets/NAME; Linux allows 107 bytes for all of it.
TEMP_LENGTH = 20
# Options that the script sets itself, or that would change how many nodes and tasks it has.
OWN_OPTIONS = {
    "job-name": "it is the name of the study or cluster",
    "output": "the log is STORAGE/.clusters/NAME-JOB.log",
    "error": "the log is STORAGE/.clusters/NAME-JOB.log",
    "open-mode": "a requeued job appends to its log",
    "signal": "Slurm has to warn the script before the time limit",
    "no-requeue": "set `requeue`",
    "requeue": "set `requeue`",
    "nodes": "set `nodes`",
    "ntasks": "there is one task on each node",
    "ntasks-per-node": "there is one task on each node",
    "array": "a study is one job",
    "cpus-per-task": "set `cpus_per_node`",
    "gpus-per-node": "set `gpus_per_node`",
    "mem": "set `memory`",
    "partition": "set `partition`",
    "account": "set `account`",
    "qos": "set `qos`",
    "time": "set `time`",
    "constraint": "set `constraint`",
}


def _check_option(option: str) -> str:
    # Slurm reads these from comments of the script: a quote, a space or a # would end them early.
    if not re.fullmatch(r"--[a-z][a-z0-9-]*(=[^\s\"'\\#\x00-\x1f\x7f]+)?", option):
        raise ValueError(
            f"'{option}' must be one option of sbatch, --NAME or --NAME=VALUE, without spaces, quotes, \\ and #"
        )
    name = option[2:].partition("=")[0]
    if name in OWN_OPTIONS:
        raise ValueError(f"'{option}' cannot be given here: {OWN_OPTIONS[name]}")
    return option


def _check_plain_path(path: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._+=@,/-]*", path):
        raise ValueError(
            f"'{path}' must be an absolute path of letters, digits and . _ - + = @ , for Slurm reads it from a "
            "comment of the script"
        )
    return path


def _check_python(path: str) -> str:
    if PurePosixPath(path).name in ("", "..") or not path.startswith("/"):
        raise ValueError(f"'{path}' must be the absolute path of a Python, such as /home/me/venv/bin/python")
    return path


def _check_temp(path: str) -> str:
    if len(path.rstrip("/").encode()) > TEMP_LENGTH:
        raise ValueError(f"'{path}' must have at most {TEMP_LENGTH} bytes, for Ray's sockets lie in it; take /tmp")
    return path


def _check_node(entry: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", entry):
        raise ValueError(f"'{entry}' must be the name of one node, or its IP address")
    return entry


Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,@:+/-]+$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00\r]*$")]


class SlurmProfile(Profile):
    """A Slurm cluster; a job brings up Ray on nodes of its own."""

    kind: Literal["slurm"]
    exclude: tuple[Annotated[str, AfterValidator(_check_node)], ...] = Field(
        (),
        description="nodes that jobs are not given, --exclude, and trials are not placed on: names as Slurm has them, "
        "or the addresses that `preflight` prints, whose names Slurm is asked for when the job is queued or its file "
        "is rendered",
    )
    nodes: int = Field(1, ge=1, description="nodes of the job; Ray's head is on the first one, which trains too")
    cpus_per_node: int = Field(ge=1, description="CPUs on each node, --cpus-per-task")
    gpus_per_node: int = Field(0, ge=0, description="GPUs on each node, --gpus-per-node")
    memory: Annotated[str, StringConstraints(pattern=r"^[0-9]+[KMGT]?$")] | None = Field(
        None, description="memory on each node, such as 64G, --mem; null = Slurm's default"
    )
    partition: Word | None = Field(None, description="partitions, separated by commas; null = Slurm's default")
    account: Word | None = Field(None, description="account that the job is charged to; null = Slurm's default")
    qos: Word | None = Field(None, description="quality of service; null = Slurm's default")
    time: Annotated[str, StringConstraints(pattern=r"^([0-9]+-)?[0-9]+(:[0-9]{1,2}){0,2}$")] = Field(
        "24:00:00",
        description="time limit, HH:MM:SS or D-HH:MM:SS; two minutes before it the study stops and the job is requeued",
    )
    constraint: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,@:+/&|*()\[\]-]+$")] | None = Field(
        None, description="features that the nodes must have, such as a100|h100"
    )
    options: tuple[Annotated[str, AfterValidator(_check_option)], ...] = Field(
        (), description="further options of sbatch, such as --mail-type=END"
    )
    setup: tuple[Line, ...] = Field(
        (), description="shell lines that run on the first node before Ray starts: module load, conda activate"
    )
    python: Annotated[str, AfterValidator(_check_python)] = Field(
        description="absolute path of the environment's Python on the nodes, in a folder with its `ray`"
    )
    temp: Annotated[AbsolutePath, AfterValidator(_check_temp)] = Field(
        "/tmp", description="folder on a disk of each node for Ray's sockets and logs; its path has to be short"
    )
    interface: Word | None = Field(
        None,
        description="network interface for Ray, gloo and NCCL, such as ib0; null = the one with the address by which "
        "Slurm reaches the node",
    )
    requeue: bool = Field(
        True, description="whether the job is queued again when its time is up or it is preempted; the study goes on"
    )
    wait_seconds: int = Field(300, ge=1, description="how long to wait until Ray is up on all nodes, in seconds")
    login: Line | None = Field(
        None, description="command that reaches a login node, such as `ssh me@login`; null = sbatch is on this machine"
    )

    @field_validator("storage")
    @classmethod
    def _check_storage(cls, path: str) -> str:
        return _check_plain_path(path)

    @field_validator("env")
    @classmethod
    def _check_env(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
                raise ValueError(f"'{name}' must be the name of an environment variable: letters, digits and _")
        return env
