"""Fixtures for all tests: a miniature of the demo corpus, made once a session, and a PostgreSQL server."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from free_ports import choose_port
from hypothesis import HealthCheck, settings
from mlflow import MlflowClient
from small_disk import mount_small_disk

from cluster.connect import connect
from model.corpora.corpus import Corpus
from model.corpora.demo.build import make_demo
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from model.training.prepare import prepare
from study.runner import Work
from study.tracking import mlflow_runs, mlflow_store

pytest_plugins = ["long_tests", "parallel", "skips"]
# A busy machine misses hypothesis' limits of time. All else stays as it is: with CI=true nothing is drawn at random.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

HERE = Path(__file__).parent
# Seconds for a test with this marker or in this folder, where it names no timeout itself.
LONG = {"end_to_end": 400, "contracts": 400, "slow": 600, "chaos": 600, "cluster": 600, "speed": 600, "gpu": 400}
STUB = Work("stub_training:train", "stub_training:prepare")
MINIATURE = {
    "data.batch_seconds": 12.0,
    "data.buckets": 2,
    "tokenizer.vocabulary": 40,
    "encoder.layers": 1,
    "encoder.width": 16,
    "encoder.heads": 2,
    "encoder.feed_forward": 16,
    "encoder.cgmlp": 16,
    "encoder.channels": 4,
    "encoder.dropout": 0.0,
    "loss.ctc_weight": 0.3,
    "decoder.layers": 4,
    "decoder.width": 16,
    "decoder.heads": 2,
    "decoder.feed_forward": 16,
    "training.epochs": 2,
    "decoding_search.share": 0.0,
    "optimiser.warmup_steps": 2,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that take long by design a longer timeout than that of pyproject.toml."""
    for item in items:
        names = {mark.name for mark in item.iter_markers()} | set(item.path.relative_to(HERE).parts)
        limits = [LONG[name] for name in names & LONG.keys()]
        if limits and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(max(limits)))


def pytest_collection_finish() -> None:
    """Leave what all the imports made out of every later garbage collection, of which each training run makes one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # The cores are shared with the workers that some tests start.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Forty utterances of the demo corpus."""
    folder = tmp_path_factory.mktemp("corpus") / "demo"
    return make_demo(folder, train_utterances=24, dev_utterances=4, test_utterances=4)


@pytest.fixture(scope="session")
def make_recipe(corpus: Corpus) -> Callable[..., Recipe]:
    """A recipe that trains in a second, with dotted keys replaced."""
    base = prepare(with_values(named_recipe("tiny", str(corpus.folder)), MINIATURE))

    def make(values: dict[str, Any] | None = None) -> Recipe:
        return with_values(base, values or {})

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    with mount_small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


@pytest.fixture(scope="session")
def stub() -> Work:
    """The stand-in for training; importable here and, through PYTHONPATH, in every process that a test starts."""
    sys.path.insert(0, str(HERE))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return STUB


@pytest.fixture(scope="session")
def ray_here(stub: Work) -> Iterator[None]:
    """An embedded Ray for the whole session."""
    with connect(cpus=2):
        yield


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite file before the first run. To make its tables takes 1.5 s, to copy them nothing."""
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    mlflow_store.client_of(f"sqlite:///{file}").search_experiments(max_results=1)
    return file


@pytest.fixture
def study_in(
    tmp_path: Path, corpus: Corpus, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Write a study file into an empty current folder. In this process, its MLflow file starts as a copy."""
    monkeypatch.chdir(tmp_path)

    def connect_to_copy(uri: str) -> MlflowClient:
        if uri.startswith("sqlite") and not mlflow_store.sqlite_file(uri).exists():
            shutil.copyfile(empty_mlflow, mlflow_store.sqlite_file(uri))
        return mlflow_store.connect(uri)

    monkeypatch.setattr(mlflow_runs, "connect", connect_to_copy)

    def write(**changes: Any) -> Path:
        study: dict[str, Any] = {
            "name": "probe",
            "corpus": str(corpus.folder),
            "recipe": {"base": "tiny", "set": {"training.epochs": 4, "training.seed": 0}},
            "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
            "trials": 1,
            "baselines": ["ed"],
            "early_stopping": {"rule": "asha", "grace_epochs": 1, "reduction": 2},
            "workers": {"count": 1, "cpus": 1},
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study | changes))
        return path

    return write


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """A function that makes a database on the tests' PostgreSQL server and returns its URL."""
    candidates = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    initdb = next((Path(path).resolve() for path in candidates if path), None)
    if initdb is None:
        pytest.skip("NOT TESTED: no PostgreSQL here; install Debian's package `postgresql`")
    port = choose_port()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's own folders are closed to other users
    # PostgreSQL refuses to run as root.
    user = None if os.geteuid() else _find_user(("postgres", "nobody"))
    if user is not None:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(initdb.with_name(program)), "-D", str(folder / "data"), *arguments]
        with (folder / "commands.log").open("ab") as log:
            subprocess.run(command, user=user, cwd=folder, stdout=log, stderr=log, check=True, timeout=120)

    try:
        run("initdb", "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "server.log"), "-o", options, "start")
        try:
            yield _make_database_factory(f"postgresql://tests@127.0.0.1:{port}")
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(new_database: Callable[[], str]) -> str:
    """The URL of a new PostgreSQL database."""
    return new_database()


def _make_database_factory(server: str) -> Callable[[], str]:
    import psycopg

    names = iter(f"probe_{number}" for number in range(1000))

    def make() -> str:
        name = next(names)
        connection = psycopg.connect(f"{server}/postgres", autocommit=True)
        connection.execute(f"CREATE DATABASE {name}")
        connection.close()
        return f"{server}/{name}"

    return make


def _find_user(names: tuple[str, ...]) -> str:
    import pwd

    existing = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in names if name in existing)
