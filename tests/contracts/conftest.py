"""Real MLflow servers, a gate in front of them that fails on demand, and a study to bring to them."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from contracts.tracked_study import RECIPE
from mlflow_server import Server

from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.tracking import mlflow_store, tracker
from study.tracking.tracker import Tracker

STORES = (
    *("file", "server"),
    *(pytest.param(store, marks=pytest.mark.slow) for store in ("server_on_postgresql", "postgresql")),
)


class Gate:
    """Stands before a server: passes on, answers with a status (500), hangs, or passes one on and drops its answer."""

    def __init__(self, server: Server) -> None:
        self.mode = "pass"
        self.drop = ""  # the end of a path whose next answer is dropped
        self.requests: list[str] = []  # paths
        self._server = server
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.mode = "pass"
        self._http.shutdown()
        self._http.server_close()

    def _handler(gate) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                gate.requests.append(self.path)
                while gate.mode == "hang":
                    time.sleep(0.05)
                if gate.mode.isdigit():
                    self.reply(int(gate.mode), b"not available")
                    return
                status, answer = gate._pass_on(self, body)
                if gate.drop and self.path.endswith(gate.drop):
                    gate.drop = ""
                    self.close_connection = True
                    return
                self.reply(status, answer)

            def reply(self, status: int, body: bytes) -> None:
                with contextlib.suppress(OSError):  # the client has given up
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

        return Handler

    def _pass_on(self, asked: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in ("host", "connection")}
        request = urllib.request.Request(self._server.url + asked.path, body or None, headers, method=asked.command)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a run, to be copied: making them takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "runs.db"
    mlflow_store.client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def server(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLflow's server on SQLite."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_file, folder)
    yield from _running(Server(f"sqlite:///{folder}/runs.db", folder))


@pytest.fixture(scope="session")
def server_on_postgresql(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLflow's server on PostgreSQL."""
    yield from _running(Server(new_database(), tmp_path_factory.mktemp("server")))


@pytest.fixture(scope="session")
def file(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite file without a server."""
    return f"sqlite:///{shutil.copy(empty_file, tmp_path_factory.mktemp('file'))}"


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    before = Gate(server)
    yield before
    before.close()


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def open_study(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Ledger]:
    """A new study on the store at a URI; each test has an experiment of its own."""
    name = re.sub(r"\W+", "-", request.node.name)

    def open_at(uri: str) -> Ledger:
        study = {"name": name, "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
        folder = tmp_path / "study"  # a database other than SQLite takes no long URI of artifacts
        return Ledger.create_or_open(
            folder, StudyFile.model_validate(study | {"tracking": uri}), RECIPE, {"id": f"id-{name}"}
        )

    return open_at


@pytest.fixture(params=STORES)
def ledger(request: pytest.FixtureRequest, open_study: Callable[[str], Ledger]) -> Ledger:
    """A study on each kind of store."""
    store = request.getfixturevalue(request.param)
    return open_study(store if isinstance(store, str) else store.url)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within the block that it gives, a request that is not answered ends after a second. What failed is tried soon.

    Before and after it, a busy server has its usual time to answer.
    """
    usual = mlflow_store._REQUEST_PATIENCE
    monkeypatch.setattr(tracker, "_LONGEST_PAUSE", 1.0)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", str(usual))  # which the first limit of a process sets for ever

    def set_patience(seconds: int) -> None:
        monkeypatch.setattr(mlflow_store, "_REQUEST_PATIENCE", seconds)
        mlflow_store.limit_requests(seconds)

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        set_patience(1)
        try:
            yield
        finally:
            set_patience(usual)

    return block


@pytest.fixture
def start_tracker() -> Iterator[Callable[[Ledger], Tracker]]:
    """Starts trackers, and ends them with the test."""
    started: list[Tracker] = []

    def start(ledger: Ledger) -> Tracker:
        started.append(Tracker(ledger))
        started[-1].start()
        return started[-1]

    yield start
    for running in started:
        running.close(0)
