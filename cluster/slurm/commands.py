"""Slurm's commands, on this machine or on a login node: submit, look, cancel.

Each call is a shell program on the standard input of one `bash` there, so that neither the script nor a password is
ever part of a command line, which all users of a login node see.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.errors import ClusterError
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import FOLDER, address_file

CALL_SECONDS = 60.0
NOT_FOUND, NOT_REACHED = 127, 255  # exit codes of the shell and of ssh
JOB = re.compile(r"[0-9]+")
UNKNOWN = "UNKNOWN"  # the state of a job that Slurm has forgotten


@dataclass(frozen=True)
class RunningCluster:
    """Where a job's Ray is reached: the dashboard's URL, the head's HOST:PORT, its token's file on the cluster."""

    dashboard: str
    head: str
    token_file: str
    job: str


def submit(profile: SlurmProfile, script: str, env: Mapping[str, str] | None = None) -> str:
    """Queue a script; the job's id. `env` is added to the job's environment, and is written into no file of the user.

    Raises ClusterError where sbatch is missing, refuses the script, or the login node or the storage isn't reached.
    """
    end = "END_OF_THE_BATCH_SCRIPT"
    while end in script:
        end += "_"
    folder = shlex.quote(f"{profile.storage}/{FOLDER}")
    lines = [
        # Slurm doesn't make the folder of a job's log: the job would fail without a word.
        f"[ -d {folder} ] || (umask 077 && mkdir {folder}) || exit 1",
        *(f"export {name}={shlex.quote(value)}" for name, value in (env or {}).items()),
        f"exec sbatch --parsable <<'{end}'",
        script.rstrip("\n"),
        end,
        "",
    ]
    answer = call_slurm(profile, "sbatch", "\n".join(lines))
    # JOB or JOB;CLUSTER; a login shell may have written lines of its own before.
    for line in reversed(answer.splitlines()):
        if found := re.fullmatch(r"([0-9]+)(;\S+)?", line.strip()):
            return found[1]
    raise ClusterError(f"sbatch answers '{_one_line(answer)}' instead of a job's id; submit the script by hand")


def find_state(profile: SlurmProfile, job: str) -> str:
    """A job's state in Slurm's words, such as PENDING, RUNNING or COMPLETED; UNKNOWN where Slurm has forgotten it."""
    job = _check_job(job)
    # squeue fails for a job that has left the queue some minutes ago, sacct where Slurm keeps no accounts. Without
    # an input of their own they would read the rest of this program.
    program = (
        "type squeue >/dev/null || exit\n"
        f"squeue --noheader --states=all --format=%T --jobs={job} </dev/null 2>/dev/null\n"
        f"sacct --noheader --allocations --parsable2 --format=State --jobs={job} </dev/null 2>/dev/null\n"
        "true\n"
    )
    for line in call_slurm(profile, "squeue", program).splitlines():
        if found := re.match(r"[A-Z_]+", line.strip()):  # sacct's `CANCELLED by 1000`
            return found[0]
    return UNKNOWN


def find_jobs(profile: SlurmProfile, name: str) -> list[str]:
    """The ids of our jobs with this name that wait or run, the oldest first."""
    program = f'exec squeue --noheader --format=%A --sort=i --user="$(id -un)" --name={shlex.quote(name)}\n'
    return [line.strip() for line in call_slurm(profile, "squeue", program).splitlines() if JOB.fullmatch(line.strip())]


def cancel(profile: SlurmProfile, job: str) -> None:
    """End a job for good: its study gets SIGTERM, and SIGKILL half a minute later. One that has ended is left alone."""
    call_slurm(profile, "scancel", f"exec scancel {_check_job(job)}\n")


def requeue(profile: SlurmProfile, job: str) -> None:
    """Have a running job stop its study and join the queue again, as before its time limit."""
    call_slurm(profile, "scancel", f"exec scancel --batch --signal=TERM {_check_job(job)}\n")


def find_cluster(profile: SlurmProfile, name: str) -> RunningCluster | None:
    """Where the cluster of the running job with this name is reached; None while there is none."""
    file = shlex.quote(address_file(profile, name))
    answer = call_slurm(profile, "cat", f"[ -e {file} ] || exit 0\nexec cat {file}\n")
    # Each job replaces it in one step; a login shell may have written lines of its own before.
    for line in reversed(answer.splitlines()):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            known = json.loads(line)
            return RunningCluster(known["dashboard"], known["head"], known["token_file"], known["job"])
    return None


def read_token(profile: SlurmProfile, running: RunningCluster) -> str:
    """The token of a running cluster, which only its user may read there."""
    return call_slurm(profile, "cat", f"exec cat {shlex.quote(running.token_file)}\n").strip().splitlines()[-1].strip()


def call_slurm(profile: SlurmProfile, command: str, program: str) -> str:
    """What a shell program writes there; a ClusterError with its message where it fails."""
    # A login shell there has the PATH that a user has; here it is that of whoever calls.
    prefix = [*shlex.split(profile.login), "bash", "-l", "-s"] if profile.login else ["bash", "-s"]
    where = f"behind '{profile.login}'" if profile.login else "on this machine"
    try:
        done = subprocess.run(prefix, input=program, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
    except FileNotFoundError:
        raise ClusterError(f"there is no program '{prefix[0]}' here; change `login`, '{profile.login}'") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{command} {where} did not answer within {CALL_SECONDS:.0f} s; see whether Slurm answers there, "
            "and whether `login` asks for a password"
        ) from None
    if done.returncode == 0:
        return done.stdout
    message = _one_line(done.stderr) or _one_line(done.stdout) or f"exit code {done.returncode}"
    if profile.login and done.returncode == NOT_REACHED:
        raise ClusterError(f"'{profile.login}' does not reach the login node ({message}); change `login`")
    if done.returncode == NOT_FOUND or "not found" in message:
        raise ClusterError(
            f"there is no {command} {where}; set `login` to a command that reaches a login node, such as 'ssh me@login'"
        )
    raise ClusterError(f"{command} {where} refuses ({message})")


def _check_job(job: str) -> str:
    if not JOB.fullmatch(job):
        raise ClusterError(f"'{job}' is no id of a Slurm job; give the number that sbatch printed")
    return job


def _one_line(text: str) -> str:
    return " ".join(text.split())
