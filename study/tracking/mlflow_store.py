"""Where a study's runs are kept: the store's URI, whether it answers, and how its page is opened."""

from __future__ import annotations

import contextlib
import importlib.util
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
_REQUEST_PATIENCE = 10  # seconds for every other request
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_DRIVERS = {"postgresql": "psycopg", "postgresql+psycopg": "psycopg"}  # SQLAlchemy's own choice


def store_uri(uri: str | None, folder: Path) -> str:
    """Where a study's runs are kept: `uri`, or SQLite in the study folder."""
    return uri or f"sqlite:///{folder.resolve()}/mlflow.db"


def check_form(uri: str) -> None:
    """Refuse what is no tracking URI, or one of a database whose driver is not installed."""
    scheme = _scheme(uri)
    if scheme not in ("http", "https", *_DATABASES):
        raise UserError(
            f"tracking is '{uri}', but must be a server (http://host:port) or a database (sqlite:///file.db, "
            "postgresql://...); correct it, or leave it out for SQLite in the study folder"
        )
    driver = _DRIVERS.get(urlparse(uri).scheme)
    if driver and importlib.util.find_spec(driver) is None:
        raise UserError(
            f"tracking is '{uri}', but the driver {driver} is not installed; pip install 'decred-study[postgres]'"
        )


def check_uri(uri: str) -> None:
    """Refuse, within seconds, a tracking URI that nothing answers at. Not while a sender runs: see `patience`."""
    check_form(uri)
    try:
        reachable(uri)
        if _scheme(uri) in ("http", "https"):
            with patience(_CHECK_PATIENCE):
                client_of(uri).search_experiments(max_results=1)
    except UserError:
        raise
    except Exception as error:  # sockets, MLflow and its HTTP client each raise their own
        if refuses_credentials(error):
            raise UserError(f"tracking {uri} refuses the credentials ({brief(error)}); {CREDENTIALS}") from None
        raise UserError(
            f"tracking {uri} does not answer ({brief(error)}); start the server, correct the URI, "
            "or leave it out for SQLite in the study folder"
        ) from None


def refuses_credentials(error: Exception) -> bool:
    """Whether a server answered 401 or 403: it would say so again, however often it is asked."""
    return getattr(error, "error_code", None) in ("UNAUTHENTICATED", "PERMISSION_DENIED")


def reachable(uri: str) -> None:
    """An OSError where nobody listens; a UserError where the folder of an SQLite file is missing."""
    parts, scheme = urlparse(uri), _scheme(uri)
    if scheme == "sqlite":
        folder = sqlite_file(uri).parent
        if not folder.is_dir():
            raise UserError(f"tracking is '{uri}', but the folder {folder} does not exist; make it or correct the path")
        return
    port = parts.port or {"http": 80, "https": 443, "mysql": 3306, "mssql": 1433}.get(scheme, 5432)
    socket.create_connection((parts.hostname or "localhost", port), _CHECK_PATIENCE).close()


def sqlite_file(uri: str) -> Path:
    """The file of an SQLite URI."""
    return Path(urlparse(uri).path.removeprefix("/") or ".")


def _scheme(uri: str) -> str:
    return urlparse(uri).scheme.split("+")[0]


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

    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Its errors are raised, too, and told in one line; it would log each try with a traceback.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    return mlflow.MlflowClient(tracking_uri=uri)


def limit_requests() -> None:
    """No request to a store takes long or is repeated by MLflow, which reads these variables at every request.

    Set once and for the whole process: changed around calls, they would change under other threads.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(_REQUEST_PATIENCE)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(_REQUEST_PATIENCE))
    from mlflow.store.db import utils

    # It opens a database with fifteen tries, the last after half an hour.
    utils.MAX_RETRY_COUNT = 1


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
