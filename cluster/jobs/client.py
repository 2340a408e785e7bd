"""The jobs of a cluster: a study runs as a Ray Job, which is submitted, listed, followed and stopped from anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.addresses import find_dashboard
from cluster.connect import SETTINGS
from cluster.credentials import enable_token_authentication, refused_credentials_error
from cluster.errors import ClusterError, format_error

NO_JOB_AGENT = "No available agent"  # the dashboard's message when no agent has started within ten seconds
OVERRIDING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray prefers these to the address it is given
TALKATIVE = (
    *("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"),
    "ray._private.runtime_env.packaging",
)
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
POLL_SECONDS = 0.5
SILENCE_SECONDS = 30.0  # of a stream, before it is looked whether its connection is alive
PATIENCE_SECONDS = 120.0  # for a cluster that does not answer while its job is followed
STOP_SECONDS = 90.0  # for a study to end in order before the job is given up


@dataclass(frozen=True)
class Job:
    """A job as its cluster has it; times in seconds since 1970."""

    id: str
    status: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    metadata: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    exit_code: int | None = None
    start: float | None = None
    end: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class JobExistsError(ClusterError):
    """Another job has the id already."""


class Jobs:
    """The jobs at a dashboard. Every method raises a ClusterError where the cluster does not answer or refuses."""

    def __init__(self, dashboard: str) -> None:
        """`dashboard` is what `find_dashboard` gives."""
        from ray.job_submission import JobSubmissionClient

        self.dashboard = dashboard
        with _explain(dashboard), _unset(OVERRIDING):
            self._client = JobSubmissionClient(dashboard)
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)  # they report every upload and every stream that ends

    def submit(
        self, folder: Path, command: str, job_id: str, metadata: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        """Start a shell command in an uploaded copy of a folder. Raises a JobExistsError where the id is taken."""
        runtime_env = {"working_dir": str(folder), "env_vars": SETTINGS | dict(env)}
        with _explain(self.dashboard):
            try:
                self._client.submit_job(
                    entrypoint=command, submission_id=job_id, metadata=dict(metadata), runtime_env=runtime_env
                )
            except RuntimeError as error:
                if f"{job_id} already exists" in str(error):
                    raise JobExistsError(f"the cluster at '{self.dashboard}' has a job {job_id} already") from None
                raise

    def list(self) -> list[Job]:
        """All jobs that were submitted, the latest first."""
        with _explain(self.dashboard):
            found = [_make_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.start or 0.0, reverse=True)

    def find(self, job_id: str) -> Job:
        """One job."""
        with _explain(self.dashboard):
            return _make_job(self._client.get_job_info(job_id))

    def read_log(self, job_id: str) -> str:
        """All that the job has printed."""
        with _explain(self.dashboard):
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str, seconds: float = STOP_SECONDS) -> Job:
        """Send the job SIGTERM, and wait until it has ended; the cluster kills it when its own patience ends."""
        with _explain(self.dashboard):
            self._client.stop_job(job_id)
        return self.wait(job_id, seconds)

    def wait(self, job_id: str, seconds: float) -> Job:
        """The job when it has ended, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (job := self.find(job_id)).has_ended and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return job

    def follow(self, job_id: str, patience: float = PATIENCE_SECONDS) -> Iterator[str]:
        """What the job prints, in pieces, to its end.

        The stream of a dashboard may end before the job does, break, or go silent for ever on a connection that is
        dead: it is asked again, and what was given is left out. A ClusterError where the cluster does not answer for
        `patience` seconds.
        """
        given, failing_since = 0, None
        while True:
            with contextlib.suppress(ClusterError):
                position = printed = 0
                for piece in self._read_stream(job_id):
                    if not piece:
                        # What was printed by the last silence has not come since: the connection is dead. One that
                        # lives is kept, because Ray's dashboard reads on for each stream that was left until it ends.
                        if given < printed or self.find(job_id).has_ended:
                            break
                        printed = len(self.read_log(job_id))
                    new = piece[max(0, given - position) :]
                    position += len(piece)
                    if new:
                        given, failing_since = position, None
                        yield new
            try:
                if self.find(job_id).has_ended:
                    yield self.read_log(job_id)[given:]
                    return
                failing_since = None
            except ClusterError:
                now = time.monotonic()
                failing_since = failing_since or now
                if now > failing_since + patience:
                    raise
            time.sleep(POLL_SECONDS)

    def _read_stream(self, job_id: str) -> Iterator[str]:
        """The pieces of the dashboard's stream, and an empty one whenever none has come for SILENCE_SECONDS.

        The runner closes the stream, however the iteration ends.
        """
        stream = self._client.tail_job_logs(job_id)
        with _explain(self.dashboard), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            loop = runner.get_loop()
            while True:
                coming = asyncio.ensure_future(anext(stream, None), loop=loop)
                # A timeout of `wait` leaves the stream as it is; that of `wait_for` would end it.
                while not loop.run_until_complete(asyncio.wait({coming}, timeout=SILENCE_SECONDS))[0]:
                    yield ""
                if (piece := coming.result()) is None:
                    return
                yield piece


def open_jobs(address: str) -> Jobs:
    """The jobs of the cluster whose dashboard is at `address`; this machine's token is sent."""
    dashboard = find_dashboard(address)
    enable_token_authentication()
    return Jobs(dashboard)


def _make_job(details: Any) -> Job:
    """Ray's details of a job, with seconds instead of its milliseconds."""
    start, end = (time and time / 1000 for time in (details.start_time, details.end_time))
    status = str(getattr(details.status, "value", details.status))
    metadata, message = dict(details.metadata or {}), details.message or ""
    return Job(details.submission_id, status, metadata, message, details.driver_exit_code, start, end)


@contextlib.contextmanager
def _explain(address: str) -> Iterator[None]:
    """Raise what Ray's client raises as a ClusterError."""
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise refused_credentials_error(address) from None
    except (ConnectionError, RuntimeError, ValueError, OSError, ClientError) as error:
        raise _refused_error(address, error) from None


def _refused_error(address: str, error: Exception) -> ClusterError:
    if NO_JOB_AGENT in str(error):
        return ClusterError(
            f"the cluster at '{address}' answers, but no job agent is up on its head: submit again half a minute after "
            "`ray start --head`; where two Rays share a machine, start each with its own --dashboard-agent-listen-port"
        )
    return ClusterError(f"the cluster at '{address}' does not do this ({format_error(error)})")


@contextlib.contextmanager
def _unset(variables: Sequence[str]) -> Iterator[None]:
    saved = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)
