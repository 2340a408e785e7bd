"""MLflow's SQLite file is made whole or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.tracking import mlflow_store

MAKE = "import sys; from study.tracking.mlflow_store import client_of; client_of(sys.argv[1]).search_experiments()"


def read_tables(file: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        ]


def test_a_process_that_is_killed_as_soon_as_the_file_is_there_leaves_all_tables_in_it(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    file = tmp_path / "runs.db"
    with subprocess.Popen([sys.executable, "-c", MAKE, f"sqlite:///{file}"]) as process:
        while not file.exists():
            assert process.poll() is None or file.exists()
            time.sleep(0.001)
        process.kill()
    assert read_tables(file) == read_tables(empty_mlflow)
    assert mlflow_store.client_of(f"sqlite:///{file}").search_experiments()


def test_an_interruption_leaves_nothing_and_a_file_that_another_process_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runs.db"
    rename = mlflow_store._rename_to_new

    def interrupt(draft: Path, file: Path) -> None:
        raise KeyboardInterrupt

    def be_slower(draft: Path, file: Path) -> None:
        file.write_bytes(draft.read_bytes())
        made.append(file.stat().st_ino)
        rename(draft, file)

    made: list[int] = []
    monkeypatch.setattr(mlflow_store, "_rename_to_new", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mlflow_store.client_of(f"sqlite:///{file}")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(mlflow_store, "_rename_to_new", be_slower)
    assert mlflow_store.client_of(f"sqlite:///{file}").search_experiments()
    assert [file.stat().st_ino] == made
    assert list(tmp_path.iterdir()) == [file]
