"""Where runs are kept: URIs that cannot work are refused in one line, and the page opens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import click
import mlflow.cli
import pytest

from model.errors import UserError
from study.tracking import mlflow_store
from study.tracking.mlflow_store import check_form, check_uri, connect, limit_requests, store_uri, ui_command


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


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
    ],
)
def test_a_uri_that_is_no_server_and_no_database_is_refused(uri: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        check_uri(uri)
    assert words in str(error.value)


def test_a_sqlite_uri_in_a_folder_that_exists_is_accepted(tmp_path: Path) -> None:
    check_uri(f"sqlite:///{tmp_path}/mlflow.db")


def test_the_dashboards_command_is_one_that_mlflow_accepts(tmp_path: Path) -> None:
    uri = store_uri(None, tmp_path)
    _, *command = ui_command(uri, "127.0.0.1", 5001)
    assert command[:3] == ["-m", "mlflow", "ui"]
    # parsed by MLflow itself, without starting a server
    group = mlflow.cli.cli
    ui = group.get_command(click.Context(group), "ui")
    assert ui is not None
    context = ui.make_context("ui", command[3:])
    parsed = {name: context.params[name] for name in ("backend_store_uri", "host", "port")}
    assert parsed == {"backend_store_uri": uri, "host": "127.0.0.1", "port": 5001}


def test_a_server_needs_no_dashboard_command() -> None:
    with pytest.raises(UserError, match="is a server with a page of its own; open it in a browser"):
        ui_command("http://host:5000", "127.0.0.1", 5001)


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
