"""A database that is busy is waited for, one that fails is told in a line, and a full disk is told from both."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from model.errors import UserError
from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.search import optuna_store
from study.search.optuna_store import check_database, storage_url, translated
from study.search.proposer import Proposer

TINY = named_recipe("tiny", "speech")
STUDY = StudyFile.model_validate(
    {"name": "s", "corpus": "speech", "trials": 40, "baselines": [], "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
)
HOLD = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Optuna's tables, made once because that takes a second."""
    path = tmp_path_factory.mktemp("template") / "optuna.db"
    Proposer(STUDY, TINY, f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def database(tmp_path: Path, template: bytes) -> Path:
    path = tmp_path / "optuna.db"
    path.write_bytes(template)
    return path


@contextmanager
def held(database: Path, seconds: float) -> Iterator[int]:
    """Another process locks the whole database for so long; its id."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, database, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_database_that_another_process_locks_is_named_with_that_process(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna_store, "LOCK_PATIENCE", 0.1)
    proposer = Proposer(STUDY, TINY, f"sqlite:///{database}")
    with held(database, 60) as holder:
        with pytest.raises(UserError) as error:
            proposer.propose()
        with pytest.raises(UserError, match="was locked for"):
            Proposer(STUDY, TINY, f"sqlite:///{database}")
    who = rf"process {holder}, \S+, may hold it" if Path("/proc/self/fd").exists() else "a process .* may hold it"
    line = rf"Optuna's database {database} was locked for 0.1 s \({who}\); end that process or wait for it, then .*"
    assert re.fullmatch(line, str(error.value))
    assert proposer.propose() is not None


def test_a_database_that_is_locked_for_a_while_is_waited_for(database: Path) -> None:
    proposer = Proposer(STUDY, TINY, f"sqlite:///{database}")
    with held(database, 0.7):
        assert proposer.propose() is not None


def test_a_full_disk_is_an_os_error_that_says_so(database: Path) -> None:
    proposer = Proposer(STUDY, TINY, f"sqlite:///{database}")

    @sqlalchemy.event.listens_for(proposer._storage.engine, "checkout")
    def no_more_pages(connection: object, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

    def all_of(proposer: Proposer) -> None:
        while proposer.propose() is not None:
            pass

    with pytest.raises(OSError, match="No space left on device") as error:
        all_of(proposer)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(database)


def test_any_other_failure_is_told_with_the_databases_own_words_and_without_its_password() -> None:
    said = r"Optuna's database postgresql://me:\*\*\*@host/db failed \(server closed the connection\); .* it goes on"
    with pytest.raises(UserError, match=said), translated("postgresql://me:secret@host/db"):
        raise OperationalError("SELECT 1", {}, Exception("server closed\n the connection"))


def test_a_server_that_does_not_answer_is_told_before_anything_starts() -> None:
    with pytest.raises(UserError, match=r"Optuna's storage postgresql.*:\*\*\*@localhost:1/db (cannot|needs)"):
        Proposer(STUDY, TINY, "postgresql://me:secret@localhost:1/db")


def test_a_given_database_is_asked_whether_it_answers_and_nothing_is_made_there(
    tmp_path: Path, postgresql: str
) -> None:
    check_database(postgresql)
    with sqlalchemy.create_engine(postgresql).connect() as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == []
    check_database(f"sqlite:///{tmp_path}/optuna.db")
    assert list(tmp_path.iterdir()) == []


REFUSED_DATABASES = {
    "postgresql://me:secret@127.0.0.1:9/db": r"database postgresql://me:\*\*\*@127.0.0.1:9/db does not answer \(.*\); "
    "start the server, correct the URL, or leave it out for SQLite in the study folder",
    "sqlite:////nowhere/optuna.db": "database is 'sqlite:////nowhere/optuna.db', but the folder /nowhere does not "
    "exist; make it or correct the path",
    "postgres": "Optuna's storage postgres cannot be opened .*; make it writable or correct the URL",
}


@pytest.mark.parametrize("url", REFUSED_DATABASES)
def test_a_given_database_that_does_not_answer_is_one_line(url: str) -> None:
    with pytest.raises(UserError) as error:
        check_database(url)
    assert re.fullmatch(REFUSED_DATABASES[url], str(error.value))


def test_a_missing_driver_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"needs a driver that is not installed \(.*\); pip install 'decred-study\[pos"):
        Proposer(STUDY, TINY, "postgresql+psycopg://me@localhost:1/db")


def test_two_folders_cannot_share_a_study_of_one_name(database: Path) -> None:
    url = f"sqlite:///{database}"
    proposer = Proposer(STUDY, TINY, url, "folder one")
    proposer.propose()
    assert len(Proposer(STUDY, TINY, url, "folder one").interrupted()) == 1
    with pytest.raises(UserError, match="already holds another study 's', of another study folder; give"):
        Proposer(STUDY, TINY, url, "folder two")


def test_the_database_lies_in_the_study_folder(tmp_path: Path) -> None:
    assert storage_url(STUDY, tmp_path) == f"sqlite:///{tmp_path}/optuna.db"
