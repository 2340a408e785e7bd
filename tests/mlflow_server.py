"""A real MLflow server for tests, which start, freeze and end it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from free_ports import choose_port

from study.tracking import mlflow_store


class Server:
    """An `mlflow server` on a database; it keeps its port when it is restarted."""

    def __init__(self, database: str, folder: Path) -> None:
        self.port = choose_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
        self._command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=mlflow_store.ui_environment(), start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.2)

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
