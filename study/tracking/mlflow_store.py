"""The store that keeps a study's runs: its URI, whether it answers, a client of it, and its page.

Functions take a URI as the study file has it. Its references to the environment are resolved here and nowhere else, for
the moment of a call.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import ParseResult, urlparse

from model.errors import UserError
from model.strict import sync_file, sync_folder
from study.config.tracking_uri import mask_text, mask_uri, remove_user, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MAX_LOCATION = 200 - len("/" + 32 * "0" + "/artifacts")  # of an experiment: MLflow keeps 200 characters of a run's URI
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
            f"tracking is '{mask_uri(uri)}', but must be a server (http://host:port) or a database (sqlite:///file.db, "
            "postgresql://...); correct it, or leave it out for SQLite in the study folder"
        )
    driver = _DRIVERS.get(_split(uri).scheme)
    if driver and importlib.util.find_spec(driver) is None:
        raise UserError(
            f"tracking is '{mask_uri(uri)}', but the driver {driver} is not installed; "
            "pip install 'decred-study[postgres]'"
        )


def check_artifacts(url: str | None, uri: str | None) -> None:
    """Refuse a place for artifacts that the store at `uri` would not use, or for which a package is missing."""
    if url is None:
        return
    if uri is not None and is_server(uri):
        raise UserError(
            f"object_store.artifacts is '{url}', but tracking is an MLflow server, which has its own place for "
            "artifacts; leave it out, and start the server with --artifacts-destination"
        )
    if url.startswith("s3://") and importlib.util.find_spec("boto3") is None:
        raise UserError(
            f"object_store.artifacts is '{url}', but the package boto3 is not installed; pip install 'decred-study[s3]'"
        )


def check_artifact_path(uri: str, folder: Path, url: str | None) -> None:
    """Refuse a place for artifacts whose URI a database other than SQLite would not take."""
    location = artifact_location(uri, folder, url)
    if location is not None and not is_sqlite(uri) and len(location) > _MAX_LOCATION:
        raise UserError(
            f"artifacts would go to {location}, but with this tracking MLflow takes {_MAX_LOCATION} characters, and "
            f"these are {len(location)}; choose a shorter storage, or set object_store.artifacts"
        )


def artifact_location(uri: str, folder: Path, url: str | None) -> str | None:
    """Where a new experiment's artifacts go: under `url`, or in the study's folder; None where a server decides."""
    if is_server(uri):  # a bare database would put them into the current folder
        return None
    return url or (folder.resolve() / "artifacts").as_uri()


def check_uri(uri: str) -> None:
    """Refuse, within seconds, a URI that nothing answers at. Not while a tracker runs: see `limit_requests`."""
    check_form(uri)
    try:
        if is_server(uri):
            connect(uri, _CHECK_PATIENCE).search_experiments(max_results=1)
        else:
            check_reachable(uri)
    except UserError:
        raise
    except Exception as error:  # sockets, MLflow and its HTTP client each raise their own
        if refuses_credentials(error):
            raise UserError(
                f"tracking {mask_uri(uri)} refuses the credentials ({brief(error, uri)}); {CREDENTIALS}"
            ) from None
        raise UserError(
            f"tracking {mask_uri(uri)} does not answer ({brief(error, uri)}); start the server, correct the URI, "
            "or leave it out for SQLite in the study folder"
        ) from None


def refuses_credentials(error: Exception) -> bool:
    """Whether a server answered 401 or 403, which trying again would not change."""
    return getattr(error, "error_code", None) in ("UNAUTHENTICATED", "PERMISSION_DENIED")


def connect(uri: str, patience: float | None = None) -> MlflowClient:
    """A client whose requests end after `patience` seconds. An OSError or UserError where the store is not reached."""
    limit_requests(_REQUEST_PATIENCE if patience is None else patience)
    check_reachable(uri)  # because MLflow tries to open a database for an hour
    return client_of(uri)


def check_reachable(uri: str) -> None:
    """An OSError where nothing listens; a UserError where the folder of an SQLite file is missing."""
    if is_sqlite(uri):
        folder = sqlite_file(uri).parent
        if not folder.is_dir():
            raise UserError(
                f"tracking is '{mask_uri(uri)}', but the folder {folder} does not exist; make it or correct the path"
            )
        return
    parts, scheme = _split(uri), _scheme(uri)
    port = parts.port or {"http": 80, "https": 443, "mysql": 3306, "mssql": 1433}.get(scheme, 5432)
    socket.create_connection((parts.hostname or "localhost", port), _CHECK_PATIENCE).close()


def sqlite_file(uri: str) -> Path:
    """The file of an SQLite URI."""
    return Path(_split(uri).path.removeprefix("/") or ".")


def is_sqlite(uri: str) -> bool:
    """Whether the store is an SQLite file."""
    return _scheme(uri) == "sqlite"


def is_server(uri: str) -> bool:
    """Whether the store is an MLflow server, which has a page of its own."""
    return _scheme(uri) in ("http", "https")


def _scheme(uri: str) -> str:
    return _split(uri).scheme.split("+")[0]


def _split(uri: str) -> ParseResult:
    # Without the password, parts of which urlparse takes for a port or a path, and names in its errors.
    try:
        return urlparse(remove_user(resolve_uri(uri)))
    except ValueError as error:
        raise UserError(f"tracking is '{mask_uri(uri)}', but must be a URI ({error}); correct it") from None


def page_url(uri: str) -> str:
    """The page of an MLflow server, without user and password, which a browser asks for."""
    return mask_uri(remove_user(resolve_uri(uri)))


def ui_command(host: str, port: int) -> list[str]:
    """The command that opens MLflow's page, on the store of `ui_environment`: everybody can read a command line."""
    return [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]


def ui_environment(uri: str | None = None) -> dict[str, str]:
    """The page's environment: its store, no job runners (eight processes that outlive it), no usage figures sent."""
    store = {} if uri is None else {"MLFLOW_BACKEND_STORE_URI": resolve_uri(uri)}
    return os.environ | store | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def client_of(uri: str) -> MlflowClient:
    """A client of the store."""
    # MLflow sends usage figures to its makers unless that is turned off before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # here because it takes seconds, which `--help` should not cost

    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Its errors are raised as well, and reported in one line; it would log each try with a traceback.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    if is_sqlite(uri) and sqlite_file(uri).name != ":memory:" and not sqlite_file(uri).exists():
        _make_tables(sqlite_file(uri))
    return mlflow.MlflowClient(tracking_uri=resolve_uri(uri))


def forget_place(run_id: str) -> None:
    """Drop what MLflow keeps of where a run's files lie: 10 KiB a run, of a thousand runs, for a few requests."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.pop(run_id, None)  # there is no public way


def _make_tables(file: Path) -> None:
    """Make an SQLite file with MLflow's tables, whole or not at all.

    MLflow makes them in dozens of steps, a second or two in all, and for ever refuses a file that was left amid them.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "empty.db"
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments(max_results=1)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            shutil.copyfile(made, draft)
            sync_file(draft)
            with contextlib.suppress(FileExistsError):  # another process was quicker, and may have written into its own
                _rename_to_new(draft, file)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(file.parent)


def _rename_to_new(draft: Path, file: Path) -> None:
    """Give the draft its name, and never replace what has it."""
    try:
        os.link(draft, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if not file.exists():
            os.replace(draft, file)


def limit_requests(patience: float) -> None:
    """No request takes more than `patience` seconds or is repeated by MLflow, which reads these variables each time.

    Set for the whole process: changed around single calls, they would change under other threads.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(patience)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(_REQUEST_PATIENCE))
    from mlflow.store.db import utils

    # It opens a database with fifteen tries, the last after half an hour.
    utils.MAX_RETRY_COUNT = 1


def brief(error: Exception, uri: str) -> str:
    """An error of the store at `uri` in one short line, without its password."""
    # Masked first: a password that is cut off in its middle would not be found.
    return " ".join(mask_text(str(error), uri).split())[:200] or type(error).__name__
