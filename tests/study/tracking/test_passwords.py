"""The password of a database reaches MLflow and nothing else: no file of the study, no output, no command line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from contracts.tracked_study import RECIPE
from free_ports import choose_port
from typer.testing import CliRunner

from model.errors import UserError
from model.strict import to_yaml
from study.cli.main import app
from study.config.study_file import StudyFile
from study.ledger.ledger import STUDY, Ledger
from study.runner import Work
from study.tracking.mlflow_store import client_of

SECRET = "sEcReT-47"  # a part of the password that no encoding changes
PASSWORD = f"p@ss/w:rd %41#{SECRET}'?"
VARIABLE = "DECRED_TEST_PASSWORD"
ROLE = "guarded"
RUN = """
import sys
from pathlib import Path
from study.runner import Work, run_study
sys.exit(run_study(Path("study.yaml"), work=Work("stub_training:train", "stub_training:prepare")))
"""


class Database:
    """A PostgreSQL database of a role that needs its password."""

    def __init__(self, admin: str) -> None:
        self._admin = admin
        host, name = admin.rpartition("@")[2].split("/")
        self._place = f"{host}/{name}"
        self.uri = f"postgresql://{ROLE}:${{{VARIABLE}}}@{self._place}"
        self.shown = f"postgresql://{ROLE}:***@{self._place}"  # where the study file has the password
        with self._connect() as connection:
            rules = Path(str(connection.execute("SHOW hba_file").fetchall()[0][0]))
            rule = f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n"
            if rule not in rules.read_text():
                rules.write_text(rule + rules.read_text())
                connection.execute("SELECT pg_reload_conf()")
                literal = PASSWORD.replace("'", "''")
                connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{literal}'")
            connection.execute(f"ALTER DATABASE {name} OWNER TO {ROLE}")

    @property
    def uri_with_password(self) -> str:
        return self.uri.replace(f"${{{VARIABLE}}}", quote(PASSWORD, safe=""))

    def read_all(self) -> str:
        """Every row of every table."""
        with self._connect() as connection:
            tables = connection.execute("SELECT relname FROM pg_stat_user_tables").fetchall()
            return "\n".join(
                str(row[0])
                for (table,) in tables
                for row in connection.execute(f'SELECT t::text FROM "{table}" t').fetchall()
            )

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._admin, autocommit=True)


@pytest.fixture
def database(postgresql: str) -> Database:
    return Database(postgresql)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray's own files and logs go; a short path, because its sockets lie there too."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Watched:
    """A process whose command line, with those of all that it starts, is looked at while it runs."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self._output = Path(f"output-{time.monotonic_ns()}.txt")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=os.environ | environment
            )
        self.commands: dict[int, str] = {}

    @property
    def output(self) -> str:
        return self._output.read_text()

    def look(self) -> None:
        """Note the command lines of the process and of its session."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == self.process.pid:
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    self.commands[int(folder.name)] = self.commands.get(int(folder.name), "") + line

    def wait(self, seconds: float = 240) -> int:
        """Its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output
            self.look()
            time.sleep(0.05)
        return self.process.returncode

    def close(self) -> None:
        """End all of the session."""
        self.look()
        for number in self.commands:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(number) == self.process.pid:
                    os.kill(number, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Watched]]:
    started: list[Watched] = []

    def start_watched(*command: str, **environment: str) -> Watched:
        started.append(Watched([sys.executable, *command], **environment))
        return started[-1]

    yield start_watched
    for watched in started:
        watched.close()


def find_files(folder: Path) -> list[str]:
    """The files below a folder that have a part of the password."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and SECRET.encode() in path.read_bytes():
            found.append(str(path.relative_to(folder)))
    return found


def read_page(url: str, watched: Watched) -> str:
    """The answer of a server that is about to start."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            assert watched.process.poll() is None, watched.output
            assert time.monotonic() < deadline, watched.output
            watched.look()
            time.sleep(0.1)


def open_ledger(folder: Path, tracking: str | None) -> Ledger:
    content = {"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
    return Ledger.create_or_open(folder, StudyFile.model_validate(content | {"tracking": tracking}), RECIPE, {})


REFUSED = "but must not hold a password, which .* would see; write \\${MLFLOW_TRACKING_PASSWORD} in its place, and set"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"postgresql://me:{SECRET}@host/runs", r"postgresql://me:\*\*\*@host/runs"),
        (f"https://host/?token={SECRET}", r"https://host/\?token=\*\*\*"),
    ],
)
def test_a_password_is_brought_into_no_folder(uri: str, shown: str, tmp_path: Path) -> None:
    line = f"^tracking is '{shown}', {REFUSED} that environment variable$"
    with pytest.raises(UserError, match=line):
        open_ledger(tmp_path / "new", uri)
    assert not (tmp_path / "new").exists()
    open_ledger(tmp_path / "old", None)
    with pytest.raises(UserError, match=line):
        open_ledger(tmp_path / "old", uri)
    assert find_files(tmp_path) == []


def test_a_folder_that_has_a_password_keeps_it_until_a_reference_replaces_it(tmp_path: Path) -> None:
    before = f"postgresql://me:{SECRET}@host/runs"
    ledger = open_ledger(tmp_path / "s", None)
    ledger.study = ledger.study.model_copy(update={"tracking": before})
    (tmp_path / "s" / STUDY).write_text(to_yaml(ledger.study))
    for uri in (before, before.replace("host", "moved")):
        assert open_ledger(tmp_path / "s", uri).study.tracking == Ledger.open(tmp_path / "s").study.tracking == uri
    assert SECRET not in repr(Ledger.open(tmp_path / "s").study)
    open_ledger(tmp_path / "s", "postgresql://me:${PGPASSWORD}@host/runs")
    assert find_files(tmp_path) == []
    with pytest.raises(UserError, match=REFUSED):
        open_ledger(tmp_path / "s", before)


def test_a_new_study_with_a_password_is_refused_before_anything_starts(study_in: Callable[..., Path]) -> None:
    path = study_in(tracking=f"postgresql://me:{SECRET}@127.0.0.1:9/runs")
    for command in (["run", str(path)], ["validate", str(path)]):
        with pytest.raises(UserError, match=REFUSED):
            CliRunner().invoke(app, command, catch_exceptions=False)
    assert not Path("studies").exists()


def test_of_an_mlflow_server_the_dashboard_is_its_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)
    ledger = open_ledger(tmp_path / "s", f"https://me:${{{VARIABLE}}}@mlflow.example/team")
    result = CliRunner().invoke(app, ["dashboard", str(ledger.folder), "--no-browser"], catch_exceptions=False)
    lines = "tracking is an MLflow server with a page of its own; open in a browser:\n"
    lines += "  MLflow  https://mlflow.example/team/\n"
    assert (result.exit_code, result.output) == (0, lines)


@pytest.mark.slow
def test_a_password_is_in_no_file_no_output_and_no_command_line(
    study_in: Callable[..., Path], stub: Work, database: Database, ray_folder: Path, start: Callable[..., Watched]
) -> None:
    path = study_in(tracking=database.uri)
    given = {VARIABLE: PASSWORD, "RAY_TMPDIR": str(ray_folder)}
    folder = Path("studies/probe")

    run = start("-c", RUN, **given)
    assert run.wait() == 0, run.output
    assert "up to date" not in run.output
    assert any("raylet" in line for line in run.commands.values())
    for command in (["status", str(path)], ["track", str(path)], ["track", str(folder)]):
        again = start("-m", "study", *command, **given)
        assert again.wait() == 0, again.output
    assert again.output == f"all runs are up to date in MLflow at {database.uri}\n"
    refused = start("-m", "study", "track", str(path), **{VARIABLE: f"not {PASSWORD}"})
    assert refused.wait() == 2
    assert refused.output.startswith(f"error: tracking {database.uri} cannot be read (")
    assert "password authentication failed" in refused.output

    page = start("-m", "study", "dashboard", str(path), "--port", str(port := choose_port()), **given)
    found = read_page(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=probe", page)
    assert '"name": "probe"' in found  # it is the page of this database
    page.look()
    assert any("uvicorn" in line for line in page.commands.values()), page.commands

    for watched in (run, again, refused, page):
        assert SECRET not in watched.output
        assert not [line for line in watched.commands.values() if SECRET in line]
    assert database.uri in (folder / STUDY).read_text()
    assert find_files(Path.cwd()) == []  # study file, study folder, outputs
    assert list(ray_folder.rglob("*.log"))
    assert find_files(ray_folder) == []
    rows = database.read_all()
    assert "sync.fingerprint" in rows
    assert SECRET not in rows


@pytest.mark.slow
def test_a_study_of_an_earlier_version_with_a_password_continues_and_shows_none(
    study_in: Callable[..., Path], stub: Work, database: Database, start: Callable[..., Watched]
) -> None:
    path = study_in(tracking=f"sqlite:///{Path.cwd()}/first.db")
    first = start("-c", RUN)
    assert first.wait() == 0, first.output
    folder = Path("studies/probe")
    for file in (path, folder / STUDY):  # as an earlier version wrote both
        text = file.read_text()
        file.write_text(text.replace(f"sqlite:///{Path.cwd()}/first.db", database.uri_with_password))
        assert SECRET in file.read_text()

    outputs = []
    for command in (["status", str(folder)], ["track", str(folder)], ["track", str(path)]):
        outputs.append(start("-m", "study", *command))
        assert outputs[-1].wait() == 0, outputs[-1].output
    assert outputs[-1].output.startswith(f"3 runs are not up to date in MLflow at {database.shown}; send them with: ")
    outputs.append(start("-c", RUN))
    assert outputs[-1].wait() == 0, outputs[-1].output
    assert len(client_of(database.uri_with_password).search_runs(["1"])) == 3
    for watched in outputs:
        assert SECRET not in watched.output
        assert not [line for line in watched.commands.values() if SECRET in line]
    assert find_files(folder) == [STUDY]

    # Written as a reference, it leaves the folder with the next run.
    path.write_text(path.read_text().replace(database.uri_with_password, database.uri))
    last = start("-c", RUN, **{VARIABLE: PASSWORD})
    assert last.wait() == 0, last.output
    assert find_files(Path.cwd()) == []
    assert Ledger.open(folder).study.tracking == database.uri
