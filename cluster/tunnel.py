"""A tunnel to a dashboard that this machine does not reach itself, for as long as a command takes."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from cluster.errors import ClusterError

START_SECONDS = 30.0
STOP_SECONDS = 3.0


@contextlib.contextmanager
def open_tunnel(command: str, dashboard: str = "", seconds: float = START_SECONDS) -> Iterator[str]:
    """Run the command that forwards a port of this machine, `{port}` in it; yields the URL at that port.

    `{dashboard}` in it becomes HOST:PORT of the dashboard's URL, for clusters whose head is another one each time.
    Raises a ClusterError, with the command's last line, where the port does not answer within `seconds`.
    """
    port = _choose_port()
    there = dashboard.rpartition("//")[2].rstrip("/")
    words = shlex.split(command.replace("{port}", str(port)).replace("{dashboard}", there))
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            raise ClusterError(f"tunnel `{command}` cannot be started ({error.strerror}); correct it") from None
        try:
            deadline = time.monotonic() + seconds
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read().strip().splitlines() or ["it said nothing"]
                    raise ClusterError(f"tunnel `{command}` does not come up ({said[-1]}); try it by hand")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _choose_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return
