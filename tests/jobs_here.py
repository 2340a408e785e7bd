"""A stand-in for a cluster's jobs, on this machine and without Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cluster.jobs.client import Job, Jobs
from study.remote.requests import REQUEST


class JobsHere(Jobs):
    """Jobs on this machine: requests run to their end, while studies, which need a Ray, only have an upload."""

    def __init__(self, folder: Path) -> None:
        self.dashboard, self._folder = "http://here:8265", folder
        self.jobs: list[Job] = []  # the latest first
        self.commands: dict[str, str] = {}

    def submit(
        self, folder: Path, command: str, job_id: str, metadata: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        upload = self.upload(job_id)
        shutil.copytree(folder, upload)
        self.commands[job_id] = command
        status = "RUNNING"
        if REQUEST in metadata:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            with (upload / "log").open("w") as log:
                subprocess.run(command, shell=True, cwd=upload, env=os.environ | env | {"PATH": path}, stdout=log)
            status = "SUCCEEDED"
        self.jobs.insert(0, Job(job_id, status, metadata))

    def upload(self, job_id: str) -> Path:
        return self._folder / job_id

    def list(self) -> list[Job]:
        return self.jobs

    def follow(self, job_id: str, patience: float = 0.0) -> Iterator[str]:
        yield (self.upload(job_id) / "log").read_text()

    def end(self, **changes: str) -> None:
        """Have all jobs stopped, with other metadata."""
        self.jobs = [
            replace(job, status="STOPPED", metadata=dict(job.metadata) | changes)
            if REQUEST not in job.metadata
            else job
            for job in self.jobs
        ]
