"""A study submitted to a real Ray head, from the command line to its ledger on the cluster's storage."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray_head import TOKEN, Head, start_head, wait_until

from model.corpora.corpus import Corpus
from study.config.study_file import read_study
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.remote.place import read_place
from study.remote.submission import storage_here, write_study

SMALL = {
    "name": "small",
    "data": {"corpus": "nowhere", "speeds": [1.0]},
    "tokenizer": {"vocabulary": 40},
    "training": {"epochs": 1},
    "encoder": {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "cgmlp": 16, "channels": 2},
    "decoder": {"layers": 2, "width": 16, "heads": 2, "feed_forward": 16},
}


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head() as head:
        yield head


def write_study_file(folder: Path, corpus: Corpus) -> Path:
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
        "early_stopping": {"rule": "none"},
    }
    path = folder / "files" / "sent.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_the_uploaded_study_file_has_no_path_relative_to_the_users_folder(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upload").mkdir()
    study = read_study(write_study_file(tmp_path, corpus))
    write_study(study, tmp_path / "upload", read_place(None, "http://head:8265", storage_here(study)).profile)
    uploaded = yaml.safe_load((tmp_path / "upload" / "study.yaml").read_text())
    assert uploaded["corpus"] == str(corpus.folder)
    assert uploaded["storage"] == str(tmp_path / "studies")
    assert uploaded["recipe"]["base"] == "base_recipe.yaml"
    assert read_study(tmp_path / "upload" / "study.yaml").recipe.base == str(tmp_path / "upload" / "base_recipe.yaml")


@pytest.mark.slow
def test_a_submitted_study_runs_to_its_end_on_the_cluster(head: Head, tmp_path: Path, corpus: Corpus) -> None:
    path = write_study_file(tmp_path, corpus)
    submitted = run("-m", "study", "submit", str(path), "--address", head.dashboard, cwd=tmp_path, env=head.env)
    assert submitted.returncode == 0, submitted.stderr
    uploading, started, follow = submitted.stdout.splitlines()
    assert re.fullmatch(r"uploading \d+ files, .* \(largest: .*\), commit [0-9a-f]{40}\+?", uploading)
    job = started.removeprefix("job ")
    assert follow == f"follow it with: decred-study attach sent --address {head.dashboard}"
    logs = run("-m", "study", "logs", "sent", "--address", head.dashboard, "--follow", cwd=tmp_path, env=head.env)
    assert "best: trial 0000" in logs.stdout, logs.stdout + logs.stderr
    assert wait_until(lambda: read_status(head, job) not in ("PENDING", "RUNNING"), 60), "the job did not end"
    assert read_status(head, job) == "SUCCEEDED", head.get(f"/api/jobs/{job}/logs")
    trials = Ledger.open(tmp_path / "studies" / "sent").trials
    assert [trial.state for trial in trials.values()] == [TrialState.COMPLETE]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["submit", "run"])
@pytest.mark.parametrize("fault", ["no token", "another token", "mode disabled"])
def test_refused_credentials_are_reported_in_one_line(
    command: str, fault: str, head: Head, tmp_path: Path, corpus: Corpus
) -> None:
    path = write_study_file(tmp_path, corpus)
    address = head.dashboard if command == "submit" else head.address
    changes, expected = {
        "no token": ({"HOME": str(tmp_path)}, "requires a token, but there is none here; copy ~/.ray/auth_token from"),
        "another token": ({"RAY_AUTH_TOKEN": TOKEN[::-1]}, "refuses the token in RAY_AUTH_TOKEN; it has to equal"),
        "mode disabled": ({"RAY_AUTH_MODE": "disabled"}, "requires a token, but RAY_AUTH_MODE is 'disabled' here"),
    }[fault]
    refused = run("-m", "study", command, str(path), "--address", address, cwd=tmp_path, env=head.env | changes)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith(f"error: the cluster at '{address}' {expected}")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "studies").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "expected"), [("submit", "as a Ray dashboard"), ("run", "as a Ray cluster")])
def test_the_other_port_of_a_cluster_is_refused_in_one_line(
    command: str, expected: str, head: Head, tmp_path: Path, corpus: Corpus
) -> None:
    path = write_study_file(tmp_path, corpus)
    address = head.address if command == "submit" else head.dashboard.removeprefix("http://")
    refused = run("-m", "study", command, str(path), "--address", address, cwd=tmp_path, env=head.env)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith(f"error: address '{address}' does not answer {expected} (")
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("ray_first", [True, False])
def test_the_token_in_its_usual_file_is_sent_whether_ray_was_imported_before_or_not(
    ray_first: bool, head: Head, tmp_path: Path
) -> None:
    (tmp_path / "upload").mkdir()
    (tmp_path / "upload" / "file").write_text("x")
    program = f"""
{"import ray" if ray_first else ""}
from pathlib import Path
from cluster.addresses import check_head
from cluster.connect import connect
from cluster.jobs.client import open_jobs
check_head({head.address!r})
with connect({head.address!r}) as nodes:
    print(nodes)
jobs = open_jobs({head.dashboard.removeprefix("http://")!r})
jobs.submit(Path("upload"), "true", "true-{ray_first}", {{}}, {{}})
print(jobs.dashboard)
"""
    printed = run("-c", program, cwd=tmp_path, env=head.env)
    assert printed.stdout == f"[Node(cpus=2.0, gpus=0.0)]\n{head.dashboard}\n", printed.stderr


@pytest.mark.slow
def test_a_job_agent_whose_port_is_in_use_is_reported_as_the_cause(tmp_path: Path, corpus: Corpus) -> None:
    path = write_study_file(tmp_path, corpus)
    with socket.create_server(("127.0.0.1", 0)) as other, start_head(other.getsockname()[1]) as head:
        refused = run("-m", "study", "submit", str(path), "--address", head.dashboard, cwd=tmp_path, env=head.env)
    assert refused.returncode == 2, refused.stderr
    line = refused.stderr.splitlines()[-1]  # Ray logs the upload before it
    assert line.startswith(f"error: the cluster at '{head.dashboard}' answers, but no job agent is up on its head: ")
    assert "Traceback" not in refused.stderr


def run(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False
    )


def read_status(head: Head, job: str) -> str:
    return json.loads(head.get(f"/api/jobs/{job}"))["status"]
