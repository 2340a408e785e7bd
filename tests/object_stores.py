"""A real S3 server for tests, SeaweedFS on the loopback interface, which they start, stop and fill."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from free_ports import choose_port

BUCKET = "bucket"
WRITER = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "of-the-tests"}
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "of-the-tests"}
# What else a machine may say of S3: none of it may reach the tests.
CLEARED = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION")
_START_SECONDS = 90.0  # 5 on a quiet machine
_PARTS = ("master", "volume", "filer", "s3")


class S3Server:
    """A server whose bucket is `bucket`; the identities `WRITER` and `READER` may use it."""

    def __init__(self, folder: Path) -> None:
        """Nothing runs yet."""
        self._folder = folder
        self._ports = {name: choose_port() for part in _PARTS for name in (f"{part}.port", f"{part}.port.grpc")}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> S3Server:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._ports["s3.port"]

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to write into the bucket."""
        url = f"http://127.0.0.1:{self.port}"
        # Without its region boto3 looks for one; the address of a cloud's metadata may answer elsewhere.
        return {
            "AWS_ENDPOINT_URL": url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        } | WRITER

    def start(self) -> None:
        """Start, and wait until the bucket takes objects."""
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        config = self._folder / "identities.json"
        config.write_text(json.dumps({"identities": [_identity(WRITER, "Admin"), _identity(READER, "Read", "List")]}))
        command = [str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server"]
        command += [f"-dir={self._folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20"]
        command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-s3", f"-s3.config={config}"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        log = self._folder / "server.log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._takes_objects():
            assert self._process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """End it at once; what it has confirmed is there after the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _takes_objects(self) -> bool:
        import s3fs

        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=2).close()
            options = {"endpoint_url": self.environment["AWS_ENDPOINT_URL"], "skip_instance_cache": True}
            files = s3fs.S3FileSystem(
                key=WRITER["AWS_ACCESS_KEY_ID"], secret=WRITER["AWS_SECRET_ACCESS_KEY"], **options
            )
            files.makedirs(BUCKET, exist_ok=True)
            files.pipe_file(f"{BUCKET}/first", b"first")  # refused for a while yet
            files.rm_file(f"{BUCKET}/first")
            return True
        return False


class Gate:
    """An address of a server that can be closed and opened: closed, it refuses connections and ends those there are."""

    def __init__(self, port: int) -> None:
        self._server_port, self._port = port, choose_port()
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Gate:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        sockets, self._connections = self._connections, []
        for each in (self._listener, *sockets):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._connections += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=_forward, args=ends, daemon=True).start()


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def use_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process, and those that it starts, use the server."""
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def _identity(keys: dict[str, str], *actions: str) -> dict[str, object]:
    access, secret = keys.values()
    return {
        "name": access,
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": list(actions),
    }
