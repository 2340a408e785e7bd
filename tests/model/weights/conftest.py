"""A real S3 server for the tests of weights that are kept in an object store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_stores import BUCKET, S3Server, use_server
from stored_runs import Place

from model.weights.run_store import WeightsAt, begin_training, end_training, write_weights_at


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def stored(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL in the bucket; copies of what is there are below `tmp_path`."""
    use_server(s3_server, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder, machines = tmp_path / "run", iter(range(100))
    folder.mkdir()

    def move() -> None:
        end_training(folder)
        machine = tmp_path / f"machine-{next(machines)}"
        machine.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(machine))
        begin_training(folder)

    url = None
    if request.param == "s3":
        use_server(request.getfixturevalue("s3_server"), monkeypatch)
        url = f"s3://{BUCKET}/{tmp_path.name}/trials/0003"
        write_weights_at(folder, WeightsAt(url, wait_seconds=5.0))
    move()
    yield Place(folder, url, move)
    end_training(folder)
    assert list(tmp_path.glob("machine-*/decred-weights-*/*")) == [], "copies are left"
