"""A real Ray head on free ports of this machine, with token authentication, for the tests of submission."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from free_ports import choose_port

BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef" * 4
START_SECONDS = 90.0


@dataclass(frozen=True)
class Head:
    """A running head, and the environment of a user whose home folder holds its token in the usual file."""

    address: str  # HOST:PORT, for `ray.init`
    dashboard: str  # http://HOST:PORT, for jobs
    env: dict[str, str]
    home: Path

    def get(self, path: str) -> str:
        """The dashboard's answer to a GET request."""
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as page:
            return page.read().decode()


@contextlib.contextmanager
def start_head(agent_port: int | None = None) -> Iterator[Head]:
    """A head for the time of the block, whose job agent is up; its port is chosen unless it is given."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # it holds sockets, so its path has to be short
    token = folder / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text(TOKEN)
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"HOME": str(folder), "PATH": f"{BIN}:{env['PATH']}", "PYTHONPATH": str(Path(__file__).parents[1])}
    try:
        with _start(folder, env, agent_port or choose_port()) as head:
            yield head
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _start(folder: Path, env: dict[str, str], agent: int) -> Iterator[Head]:
    gcs, dashboard, client = choose_port(), choose_port(), choose_port()
    options = {
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "num-cpus": 2,
        "object-store-memory": 100 * 1024**2,
        "temp-dir": folder / "session",
    }
    listed = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", *listed],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        ports = gcs, dashboard, agent
        ready = wait_until(lambda: process.poll() is not None or all(map(_is_open, ports)), START_SECONDS)
        assert ready, "the head did not come up"
        assert process.poll() is None, (folder / "head.log").read_text()
        yield Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", env, folder)
    finally:
        _end(process)


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Whether `done` became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head and all processes that it started, which are in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0
