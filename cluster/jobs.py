"""Submission: a study runs as a Ray Job on a cluster, with this project's packages uploaded beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.addresses import find_dashboard
from cluster.connect import SETTINGS
from cluster.credentials import enable_token_authentication, refused_credentials_error
from cluster.errors import ClusterError, format_error

# In bytes. The Jobs API refuses more with HTTP 413, although its client's warning names another limit.
UPLOAD_LIMIT = 100 * 1024**2
NOT_UPLOADED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
NO_JOB_AGENT = "No available agent"  # the dashboard's message when no agent has started within ten seconds
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's client prefers these to the address that it is given


@dataclass(frozen=True)
class SubmittedJob:
    """A job's id, and the URL of the dashboard that accepted it."""

    id: str
    dashboard: str


def submit(address: str, folder: Path, command: str, env: dict[str, str] | None = None) -> SubmittedJob:
    """Start `command` in an uploaded copy of `folder` on the cluster whose dashboard is at `address`.

    Raises ClusterError: the upload is too large, no dashboard answers, or it refuses this machine's token or the job.
    """
    check_size(folder)
    dashboard = find_dashboard(address)
    enable_token_authentication()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        with _unset(OVERRIDING):
            client = JobSubmissionClient(dashboard)
        job = client.submit_job(
            entrypoint=command,
            runtime_env={"working_dir": str(folder), "env_vars": SETTINGS | (env or {})},
        )
    except AuthenticationError:
        raise refused_credentials_error(address) from None
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _refused_job_error(address, error) from None
    return SubmittedJob(job, dashboard)


def pack(folder: Path, packages: Sequence[Path], files: Sequence[Path]) -> None:
    """Copy packages and files side by side into `folder`, the job's working directory."""
    for package in packages:
        shutil.copytree(package, folder / package.name, ignore=NOT_UPLOADED)
    for file in files:
        shutil.copy2(file, folder / file.name)


def check_size(folder: Path, limit: int = UPLOAD_LIMIT) -> int:
    """The bytes in `folder`; a ClusterError with the biggest entries where they exceed the limit."""
    sizes = {entry.name: _count_bytes(entry) for entry in folder.iterdir()}
    total = sum(sizes.values())
    if total > limit:
        biggest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        listed = ", ".join(f"{name} {sizes[name] / 1024**2:.0f} MiB" for name in biggest)
        raise ClusterError(
            f"the upload is {total / 1024**2:.0f} MiB, but Ray Jobs takes at most {limit / 1024**2:.0f} MiB "
            f"(biggest: {listed}); keep data on storage that the cluster shares and name it in the study file"
        )
    return total


def _refused_job_error(address: str, error: Exception) -> ClusterError:
    if NO_JOB_AGENT in str(error):
        return ClusterError(
            f"the cluster at '{address}' answers, but no job agent is up on its head: submit again half a minute after "
            "`ray start --head`; where two Rays share a machine, start each with its own --dashboard-agent-listen-port"
        )
    return ClusterError(f"the cluster at '{address}' does not take the job ({format_error(error)})")


@contextlib.contextmanager
def _unset(variables: Sequence[str]) -> Iterator[None]:
    saved = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def _count_bytes(entry: Path) -> int:
    if entry.is_file():
        return entry.stat().st_size
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(entry)
        for name in names
        if os.path.exists(os.path.join(folder, name))
    )
