"""A study submitted to a real Ray head, from the command line to its ledger on the cluster's storage."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from model.data.corpus import Corpus
from study.config.study_file import read_study
from study.execution.submission import lay_out
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef" * 4
SMALL = {
    "name": "small",
    "data": {"corpus": "nowhere", "speeds": [1.0]},
    "tokenizer": {"vocabulary": 40},
    "training": {"epochs": 1},
    "encoder": {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "cgmlp": 16, "channels": 2},
    "decoder": {"layers": 2, "width": 16, "heads": 2, "feed_forward": 16},
}


@pytest.fixture
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """The dashboard's address of a head on free ports, and the environment that may talk to it."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets lie in it, so its path has to be short
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PATH": f"{BIN}:{env['PATH']}"}
    gcs, dashboard, agent, client = (str(port) for port in _free_ports(4))
    ports = ["--port", gcs, "--dashboard-port", dashboard, "--dashboard-agent-listen-port", agent]
    ports += ["--ray-client-server-port", client]
    limits = ["--num-cpus", "2", "--object-store-memory", str(100 * 1024**2), "--temp-dir", str(folder)]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", *ports, *limits],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(lambda: _answers(int(dashboard)), 90, "the dashboard did not come up")
        yield f"http://127.0.0.1:{dashboard}", env
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def written(folder: Path, corpus: Corpus) -> Path:
    """A study file in a folder of its own, whose recipe, corpus and storage are relative."""
    (folder / "files").mkdir()
    (folder / "files" / "recipe.yaml").write_text(yaml.safe_dump(SMALL))
    study = {
        "name": "sent",
        "corpus": os.path.relpath(corpus.folder, folder / "files"),
        "recipe": {"base": "recipe.yaml"},
        "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
        "trials": 0,
        "baselines": ["ed"],
    }
    path = folder / "files" / "sent.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_the_upload_names_nothing_relative_to_the_place_it_came_from(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upload").mkdir()
    lay_out(read_study(written(tmp_path, corpus)), tmp_path / "upload")
    uploaded = yaml.safe_load((tmp_path / "upload" / "study.yaml").read_text())
    assert uploaded["corpus"] == str(corpus.folder)
    assert uploaded["storage"] == str(tmp_path / "studies")
    assert uploaded["recipe"]["base"] == "base_recipe.yaml"
    assert read_study(tmp_path / "upload" / "study.yaml").recipe.base == str(tmp_path / "upload" / "base_recipe.yaml")


@pytest.mark.slow
def test_a_submitted_study_runs_to_its_end_on_the_cluster(
    head: tuple[str, dict[str, str]], tmp_path: Path, corpus: Corpus
) -> None:
    address, env = head
    path = written(tmp_path, corpus)
    asked = subprocess.run(
        [sys.executable, "-m", "study", "submit", str(path), "--address", address],
        cwd=tmp_path,
        env=env | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    job = asked.stdout.split()[1].rstrip(";")
    _wait(lambda: _job(address, job)["status"] not in ("PENDING", "RUNNING"), 240, "the job did not end")
    assert _job(address, job)["status"] == "SUCCEEDED", _get(f"{address}/api/jobs/{job}/logs")
    trials = Ledger.open(tmp_path / "studies" / "sent").trials
    assert [trial.state for trial in trials.values()] == [TrialState.COMPLETE]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def _answers(port: int) -> bool:
    try:
        _get(f"http://127.0.0.1:{port}/api/version")
    except OSError:
        return False
    return True


def _job(address: str, job: str) -> dict[str, str]:
    return json.loads(_get(f"{address}/api/jobs/{job}"))


def _get(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as page:
        return page.read().decode()


def _wait(done: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
