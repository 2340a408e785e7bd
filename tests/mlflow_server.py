"""A real MLflow server for tests, which start, freeze and end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from study.tracking import mlflow_store

_PORTS = 3  # that a start tries


class Server:
    """An `mlflow server` on a database; it keeps its port when it is restarted."""

    def __init__(self, database: str, folder: Path) -> None:
        """Nothing runs yet; the port is known once it has started for the first time."""
        self.port = 0
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
        self._command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        assert self.port, "it was never started"
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers.

        `mlflow server` cannot choose a port by itself, and a free one may be taken before it does: then another is.
        """
        if self.port:
            assert self._starts(), self._log.read_text()
            return
        for _ in range(_PORTS):
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            if self._starts():
                return
        raise AssertionError(f"no start on {_PORTS} ports:\n{self._log.read_text()}")

    def _starts(self) -> bool:
        """Whether it answers, on this port, before it ends."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--host", "127.0.0.1", "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env=mlflow_store.ui_environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            if self._process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.2)
        return self._process.poll() is None  # what answers is it, and not what took the port before it

    def signal(self, kind: signal.Signals) -> None:
        """Send a signal to the server and its workers, which are a process group."""
        assert self._process is not None
        os.killpg(self._process.pid, kind)

    def end(self) -> None:
        """Send SIGTERM, as an administrator does, and wait for the end."""
        assert self._process is not None
        self.signal(signal.SIGTERM)
        self._process.wait(60)
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
