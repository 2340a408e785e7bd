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

BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef" * 4
START_SECONDS = 90.0


@dataclass(frozen=True)
class Head:
    """A running head, and the environment of a user whose home folder holds its token in the usual file."""

    address: str  # HOST:PORT, what `ray.init` takes
    dashboard: str  # http://HOST:PORT, what takes jobs
    env: dict[str, str]
    home: Path

    def get(self, path: str) -> str:
        """What the dashboard answers."""
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as page:
            return page.read().decode()


@contextlib.contextmanager
def start_head(agent_port: int | None = None) -> Iterator[Head]:
    """A head for the time of the block, whose job agent is up; its port is chosen unless it is given."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets lie in it, so its path has to be short
    token = folder / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text(TOKEN)
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"HOME": str(folder), "PATH": f"{BIN}:{env['PATH']}", "PYTHONPATH": str(Path(__file__).parents[1])}
    try:
        # A port that was free is sometimes taken before Ray binds it: then the head ends, and others are tried.
        for _ in range(3):
            with _started(folder, env, agent_port) as head:
                if head is not None:
                    yield head
                    return
        raise RuntimeError((folder / "head.log").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _started(folder: Path, env: dict[str, str], agent_port: int | None) -> Iterator[Head | None]:
    """A head on ports that were free; None if it ended while starting."""
    gcs, dashboard, agent, client = _free_ports(4)
    agent = agent_port or agent
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
        ready = wait_until(lambda: process.poll() is not None or all(map(_listens, ports)), START_SECONDS)
        head = Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", env, folder)
        yield head if ready and process.poll() is None else None
    finally:
        _end(process)


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Whether `done` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head and everything that it started, which is one session of processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0
