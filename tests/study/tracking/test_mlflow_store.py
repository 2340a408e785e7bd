"""Where runs are kept: URIs that cannot work are refused in one line, and the page opens."""

from __future__ import annotations

import base64
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import mlflow.cli
import pytest

from model.errors import UserError
from study.tracking import mlflow_store
from study.tracking.mlflow_store import (
    brief,
    check_artifact_path,
    check_form,
    check_uri,
    connect,
    limit_requests,
    page_url,
    store_uri,
    ui_command,
    ui_environment,
)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The address of a server; it adds the credentials of each request, and answers that there is nothing."""
    headers: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

        do_POST = do_GET  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        headers.append(f"127.0.0.1:{server.server_address[1]}")
        yield headers
        server.shutdown()


def test_a_uri_that_refuses_connections_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UserError, match=rf"tracking http://127.0.0.1:{port} does not answer \(.*refused\); start the"):
        check_uri(f"http://127.0.0.1:{port}")


def test_a_server_that_hangs_is_refused_within_seconds(silent_server: str) -> None:
    before = time.monotonic()
    with pytest.raises(UserError, match="does not answer"):
        check_uri(silent_server)
    assert time.monotonic() - before < 8


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mlruns", "tracking is 'mlruns', but must be a server"),
        ("file:///tmp/mlruns", "or a database"),
        ("sqlite:////nowhere/at/all/x.db", "the folder /nowhere/at/all does not exist"),
        ("http://[::1", "tracking is 'http://[::1', but must be a URI (Invalid IPv6 URL); correct it"),
        ("user:passw0rd@host", "tracking is 'user:***@host', but must be a server"),
        ("postgresql://u:passw0rd@127.0.0.1:9/x", "tracking postgresql://u:***@127.0.0.1:9/x does not answer ("),
        ("http://u:passw0rd@127.0.0.1:9", "tracking http://u:***@127.0.0.1:9 does not answer ("),
    ],
)
def test_a_uri_that_is_no_server_and_no_database_is_refused(uri: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        check_uri(uri)
    assert words in str(error.value)


def test_a_sqlite_uri_in_a_folder_that_exists_is_accepted(tmp_path: Path) -> None:
    check_uri(f"sqlite:///{tmp_path}/mlflow.db")


def test_the_dashboards_command_is_one_that_mlflow_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = store_uri(None, tmp_path)
    monkeypatch.setattr(os, "environ", ui_environment(uri))
    _, *command = ui_command("127.0.0.1", 5001)
    assert command[:3] == ["-m", "mlflow", "ui"]
    # parsed by MLflow itself, without starting a server
    group = mlflow.cli.cli
    ui = group.get_command(click.Context(group), "ui")
    assert ui is not None
    context = ui.make_context("ui", command[3:])
    parsed = {name: context.params[name] for name in ("backend_store_uri", "host", "port")}
    assert parsed == {"backend_store_uri": uri, "host": "127.0.0.1", "port": 5001}


def test_a_servers_page_is_given_without_the_credentials_that_a_browser_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVER", "mlflow.example:5000")
    monkeypatch.setenv("PASSWORD", "p@ss")
    assert page_url("https://me:${PASSWORD}@${SERVER}/") == "https://mlflow.example:5000/"


@pytest.mark.parametrize("password", ["s3cret", "s3/cret", "s3@cret", "s3:cret#?", "100% s3cret", "sécret"])
def test_a_server_that_refuses_connections_is_reported_without_the_password(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", password)
    limit_requests(1)
    uri = "http://me:${PASSWORD}@127.0.0.1:9"
    with pytest.raises(Exception, match="refused") as error:
        mlflow_store.client_of(uri).search_experiments(max_results=1)
    assert f"me:{quote(password, safe='')}@127.0.0.1:9" in str(error.value)  # MLflow's own text has it
    shown = brief(error.value, uri)
    assert shown.startswith("API request to http://me:***@127.0.0.1:9/api/2.0/mlflow/experiments/search failed with ")
    assert "cret" not in shown


@pytest.mark.parametrize(
    ("user_info", "name"), [("me:${SOME_VARIABLE}@", "SOME_VARIABLE"), ("", "MLFLOW_TRACKING_PASSWORD")]
)
def test_a_server_gets_the_password_of_the_environment(
    user_info: str, name: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv(name, "p@ss/w:rd %41#")
    limit_requests(10)
    mlflow_store.client_of(f"http://{user_info}{asked.pop()}").search_experiments(max_results=1)
    assert [base64.b64decode(header.removeprefix("Basic ")).decode() for header in asked] == ["me:p@ss/w:rd %41#"]


def test_an_error_is_masked_before_it_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "passw0rd")
    text = brief(RuntimeError("x" * 196 + "passw0rd"), "postgresql://me:${PASSWORD}@host/runs")
    assert text == "x" * 196 + "***"


def test_a_variable_that_is_not_set_is_named_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    uri = "http://me:${NOT_SET}@127.0.0.1:9"
    line = f"^tracking is '{re.escape(uri)}', but the environment variable NOT_SET is not set; set it, or name another"
    for refuse in (check_form, check_uri, connect, ui_environment):
        with pytest.raises(UserError, match=line):
            refuse(uri)


def test_a_database_without_its_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the driver psycopg is not installed; pip install 'decred-study\[postgres\]'"):
        check_form("postgresql://host/runs")


def test_a_request_ends_soon_and_is_not_repeated_by_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ, MLFLOW_HTTP_REQUEST_TIMEOUT="77"))
    connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == str(mlflow_store._REQUEST_PATIENCE) == "10"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_a_database_that_is_away_is_given_up_at_once() -> None:
    # MLflow's own fifteen tries take most of an hour.
    limit_requests(10)
    from mlflow.store.db import utils

    before = time.monotonic()
    with pytest.raises(Exception, match="refused"):
        utils.create_sqlalchemy_engine_with_retry("postgresql://127.0.0.1:9/none")
    assert time.monotonic() - before < 5


def test_artifacts_whose_uri_a_database_would_not_take_are_refused_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 150) / "s"
    check_artifact_path("sqlite:///runs.db", folder, None)
    check_artifact_path("http://host:5000", folder, None)
    check_artifact_path("postgresql://host/runs", folder, "s3://bucket/mlflow")
    with pytest.raises(
        UserError, match=r"MLflow takes 157 characters, and these are \d+; choose a shorter storage, or"
    ):
        check_artifact_path("postgresql://host/runs", folder, None)
