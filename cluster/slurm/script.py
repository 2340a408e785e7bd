"""The batch script of a Slurm job, which its user may read and submit by hand.

It begins with what the profile says, as options of sbatch and as shell variables; the rest, in `job.sh`, is the same
for all profiles. Whatever comes from a profile is quoted, except for `setup`, which is shell by intent.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib import resources

from cluster.errors import ClusterError
from cluster.slurm.profile import SlurmProfile

EXCLUDE = "--exclude="
FOLDER = ".clusters"  # in the storage: logs, tokens and addresses of clusters
WARNING_SECONDS = 120  # before the time limit; a study stops within seconds, and then Ray has to end on all nodes
# Ports of one node: 16 fixed ones, those of Ray's workers, and the last quarter for process groups.
PORTS, CPUS_FOR_PORTS = 256, 80
# Its remarks on what is so by intent: a $ in a quoted value, and functions that only `trap` and the step's tasks call.
CHECKED = "# shellcheck disable=SC2016,SC2317"


def make_script(profile: SlurmProfile, name: str, command: Sequence[str] | None) -> str:
    """The script that brings up Ray on the job's nodes and runs `command` on the first one; its exit code is the job's.

    `{head}` in an argument of the command becomes the head's HOST:PORT. Without a command, the cluster is held until
    the job is cancelled. Slurm takes only names in `exclude`: `cluster.slurm.excluded` finds those of addresses. Raises
    ClusterError where `name` cannot be the name of a job.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ClusterError(
            f"name '{name}' cannot be the name of a job; it may have 100 letters, digits, dots, _ and - "
            "and begins with a letter or a digit"
        )
    if command is not None and not command:
        raise ClusterError("the command is empty; give a program, or None to hold the cluster")
    body = (resources.files("cluster.slurm") / "job.sh").read_text(encoding="utf-8")
    return "\n".join(
        ["#!/bin/bash", *_options(profile, name), CHECKED, "", *_variables(profile, name, command), "", body]
    )


def log_file(profile: SlurmProfile, name: str, job: str) -> str:
    """The file on the cluster that a job's output goes to; a requeued job appends to it."""
    return f"{profile.storage}/{FOLDER}/{name}-{job}.log"


def address_file(profile: SlurmProfile, name: str) -> str:
    """The file on the cluster in which a running job keeps the addresses of its dashboard and head."""
    return f"{profile.storage}/{FOLDER}/{name}.json"


def _options(profile: SlurmProfile, name: str) -> list[str]:
    given = {
        "job-name": name,
        "nodes": profile.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": profile.cpus_per_node,
        "gpus-per-node": profile.gpus_per_node or None,
        "mem": profile.memory,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "time": profile.time,
        "constraint": profile.constraint,
        "output": log_file(profile, name, "%j"),
        "open-mode": "append",
        "signal": f"B:TERM@{WARNING_SECONDS}",
    }
    listed = [f"--{option}={value}" for option, value in given.items() if value is not None]
    # Of several --exclude Slurm takes the last one alone.
    listed += ["--requeue" if profile.requeue else "--no-requeue", *_merge_excluded(profile)]
    return [f"#SBATCH {option}" for option in listed]


def _merge_excluded(profile: SlurmProfile) -> list[str]:
    """The profile's own options, the nodes that it excludes among them."""
    own = [option for option in profile.options if not option.startswith(EXCLUDE)]
    given = [option.removeprefix(EXCLUDE) for option in profile.options if option.startswith(EXCLUDE)]
    excluded = [*given, *profile.exclude]
    return [*([EXCLUDE + ",".join(excluded)] if excluded else []), *own]


def _variables(profile: SlurmProfile, name: str, command: Sequence[str] | None) -> list[str]:
    values = {
        "name": name,
        "storage": profile.storage,
        "python": profile.python,
        "temp": profile.temp.rstrip("/") or "/",
        "interface": profile.interface or "",
        "cpus": profile.cpus_per_node,
        "gpus": profile.gpus_per_node,
        "wait_seconds": profile.wait_seconds,
        "requeue": "yes" if profile.requeue else "no",
        "ports": PORTS * (1 + profile.cpus_per_node // CPUS_FOR_PORTS),
    }
    lines = [f"export {key}={shlex.quote(value)}" for key, value in profile.env.items()]
    lines += ["# The profile's `setup`.", *profile.setup] if profile.setup else []
    # In lower case, so that no environment variable is overwritten; after `setup`, which may use any name.
    lines += [f"{key}={shlex.quote(str(value))}" for key, value in values.items()]
    return [*lines, f"command=({shlex.join(command or ())})"]
