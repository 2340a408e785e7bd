"""Where a study's runs are kept: the store's URI, whether it answers, and how its page is opened."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from model.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CHECK_PATIENCE = 3  # seconds for a server to answer before a study starts
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def store_uri(uri: str | None, folder: Path) -> str:
    """Where a study's runs are kept: `uri`, or SQLite in the study folder."""
    return uri or f"sqlite:///{folder.resolve()}/mlflow.db"


def check_uri(uri: str) -> None:
    """Refuse, within seconds, a tracking URI that nothing answers at."""
    parts = urlparse(uri)
    scheme = parts.scheme.split("+")[0]
    if scheme not in ("http", "https", *_DATABASES):
        raise UserError(
            f"tracking is '{uri}', but must be a server (http://host:port) or a database (sqlite:///file.db, "
            "postgresql://...); correct it, or leave it out for SQLite in the study folder"
        )
    if scheme == "sqlite":
        folder = Path(parts.path.removeprefix("/") or ".").parent
        if not folder.is_dir():
            raise UserError(f"tracking is '{uri}', but the folder {folder} does not exist; make it or correct the path")
        return
    try:
        port = parts.port or {"http": 80, "https": 443, "mysql": 3306}.get(scheme, 5432)
        socket.create_connection((parts.hostname or "localhost", port), _CHECK_PATIENCE).close()
        if scheme in ("http", "https"):
            with patience(_CHECK_PATIENCE):
                client_of(uri).search_experiments(max_results=1)
    except Exception as error:  # sockets, MLflow and its HTTP client each raise their own
        raise UserError(
            f"tracking {uri} does not answer ({brief(error)}); start the server, correct the URI, "
            "or leave it out for SQLite in the study folder"
        ) from None


def ui_command(uri: str, host: str, port: int) -> list[str]:
    """The command that opens MLflow's page on a store."""
    if uri.startswith("http"):
        raise UserError(f"tracking is {uri}, which is a server with a page of its own; open it in a browser")
    return [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]


def ui_environment() -> dict[str, str]:
    """What the page's processes run with: no job runners (eight processes that outlive it), nothing sent home."""
    return os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def client_of(uri: str) -> MlflowClient:
    """A client of the store, and of no other."""
    # MLflow sends usage figures to its makers unless told not to before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # here because it takes seconds, which `--help` should not cost

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)


def brief(error: Exception) -> str:
    """An error in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """MLflow waits two minutes and tries seven times by default, and reads these variables at every request."""
    limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
