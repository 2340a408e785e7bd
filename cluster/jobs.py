"""Submission: a study runs as a Ray Job on a cluster, with this checkout's packages uploaded beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cluster.connect import SETTINGS
from cluster.errors import ClusterError, first_line

UPLOAD_LIMIT = 100 * 1024**2  # bytes; the Jobs API refuses more with HTTP 413, whatever its client warns of
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def submit(address: str, folder: Path, command: str, env: dict[str, str] | None = None) -> str:
    """Start `command` in an uploaded copy of `folder` on the cluster at `address`; the job's id."""
    check_size(folder)
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        return client.submit_job(
            entrypoint=command,
            runtime_env={"working_dir": str(folder), "env_vars": SETTINGS | (env or {})},
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"address '{address}' does not take jobs ({first_line(error)}); give the dashboard's address, http://HEAD:8265"
        ) from None


def pack(folder: Path, packages: Sequence[Path], files: Sequence[Path]) -> None:
    """Lay packages and files side by side in `folder`, as the job will find them in its working directory."""
    for package in packages:
        shutil.copytree(package, folder / package.name, ignore=LEFT_OUT)
    for file in files:
        shutil.copy2(file, folder / file.name)


def check_size(folder: Path, limit: int = UPLOAD_LIMIT) -> int:
    """The bytes in `folder`; a ClusterError with the biggest entries where they pass the limit."""
    sizes = {entry.name: _bytes(entry) for entry in folder.iterdir()}
    total = sum(sizes.values())
    if total > limit:
        biggest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        listed = ", ".join(f"{name} {sizes[name] / 1024**2:.0f} MiB" for name in biggest)
        raise ClusterError(
            f"the upload is {total / 1024**2:.0f} MiB, but Ray Jobs takes at most {limit / 1024**2:.0f} MiB "
            f"(biggest: {listed}); keep data on storage that the cluster shares and name it in the study file"
        )
    return total


def _bytes(entry: Path) -> int:
    if entry.is_file():
        return entry.stat().st_size
    return sum(
        os.path.getsize(os.path.join(where, name))
        for where, _, names in os.walk(entry)
        for name in names
        if os.path.exists(os.path.join(where, name))
    )
