"""Optuna's database: where it is, how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import optuna
from sqlalchemy.engine import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from model.errors import UserError
from study.config.study_file import StudyFile

IDENTITY = "identity"  # attribute of an Optuna study
LOCK_PATIENCE = 60.0  # seconds that an access waits for another process's lock on SQLite
_CONNECT_PATIENCE = 10  # seconds for a server to answer
_LOCKED, _FULL = "database is locked", "database or disk is full"


class _User(Protocol):
    url: str


User = TypeVar("User", bound=_User)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def storage_url(study_file: StudyFile, folder: Path) -> str:
    """Optuna's database: SQLite in the study folder."""
    return f"sqlite:///{folder.resolve()}/optuna.db"


def check_database(url: str) -> None:
    """A UserError, within seconds, where nothing answers at a given `database`; nothing is made there."""
    try:
        if url.startswith("sqlite"):  # to connect is to make the file
            folder = Path(make_url(url).database or ".").resolve().parent
            if not folder.is_dir():
                raise UserError(
                    f"database is '{url}', but the folder {folder} does not exist; make it or correct the path"
                )
            return
        engine = create_engine(url, connect_args=_patience(url))
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy and the database's driver each raise their own
        raise UserError(_unanswered(url, error)) from None


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The database behind a URL; its tables are made where they are missing."""
    with translated(url):
        try:
            if url.startswith("sqlite"):
                return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": LOCK_PATIENCE}})
            # A study outlives a connection: each one is tried before it is used.
            return optuna.storages.RDBStorage(
                url, engine_kwargs={"pool_pre_ping": True, "connect_args": _patience(url)}
            )
        except Exception as error:  # SQLAlchemy, the database's driver and Optuna each raise their own
            if _meaning(error) in (_LOCKED, _FULL):
                raise
            raise UserError(_unopened(url, error)) from None


def open_study(storage: optuna.storages.RDBStorage, name: str, identity: str | None) -> optuna.Study:
    """The study of this name, made where it is missing; another folder's study of the same name is a UserError."""
    study = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
    owner = study.user_attrs.get(IDENTITY)
    if identity and not owner and not study.get_trials(deepcopy=False):
        study.set_user_attr(IDENTITY, identity)
    elif identity and owner not in (identity, None):
        raise UserError(
            f"Optuna's database already holds another study '{name}', of another study folder; "
            "give this study another name, or a database of its own"
        )
    return study


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """What goes wrong with the database inside, said so that a caller can act: OSError when the disk is full."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        meaning = _meaning(error)
        if meaning == _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), make_url(url).database) from error
        if meaning == _LOCKED:
            raise UserError(_locked(url)) from None
        raise UserError(
            f"Optuna's database {place(url)} failed ({meaning}); see that it is there and can be written, "
            "then run the study again: it goes on"
        ) from error


def guarded(method: Callable[Concatenate[User, Given], Result]) -> Callable[Concatenate[User, Given], Result]:
    """A method whose errors of the database at `self.url` are translated."""

    @functools.wraps(method)
    def call(self: User, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with translated(self.url):
            return method(self, *args, **kwargs)

    return call


def _meaning(error: BaseException) -> str:
    """The database's own words, in one line; Optuna hides them behind words about invalid data."""
    cause: BaseException | None = error
    while cause is not None:
        for known in (_LOCKED, _FULL):
            if known in str(cause):
                return known
        error, cause = cause, cause.__cause__
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]


def _patience(url: str) -> dict[str, int]:
    return {"connect_timeout": _CONNECT_PATIENCE} if url.startswith("postgresql") else {}


def _unanswered(url: str, error: Exception) -> str:
    if isinstance(error, ImportError | ArgumentError):
        return _unopened(url, error)
    return (
        f"database {place(url)} does not answer ({_meaning(error)}); start the server, correct the URL, "
        "or leave it out for SQLite in the study folder"
    )


def _unopened(url: str, error: Exception) -> str:
    if isinstance(error, ImportError) or isinstance(error.__cause__, ImportError):
        hint = "pip install 'decred-study[postgres]'" if url.startswith("postgresql") else "install it"
        return f"Optuna's storage {place(url)} needs a driver that is not installed ({_meaning(error)}); {hint}"
    return f"Optuna's storage {place(url)} cannot be opened ({_meaning(error)}); make it writable or correct the URL"


def _locked(url: str) -> str:
    path = make_url(url).database
    holders = _openers(Path(path)) if path else []
    who = f"{', '.join(holders)} may hold it" if holders else "a process of another machine or user may hold it"
    return (
        f"Optuna's database {path} was locked for {LOCK_PATIENCE:g} s ({who}); "
        "end that process or wait for it, then run the study again: it goes on"
    )


def _openers(path: Path) -> list[str]:
    """The other processes on this machine that have the file open, as far as they may be looked at."""
    found = []
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        process = descriptors.parent
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and any(_same(each, path) for each in descriptors.iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(f"process {process.name}, {name},")
    return sorted(found)


def _same(link: Path, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(link) == str(path.resolve())
    return False


def place(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url
