"""What is uploaded with a job, and the errors of a dashboard that refuses one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_dashboard import VERSION, Answers, serve

from cluster.errors import ClusterError
from cluster.jobs import SubmittedJob, check_size, pack, submit

JOBS: Answers = {"/api/version": VERSION, "/api/packages/": (200, "")}  # a dashboard that has the upload already


def test_an_upload_has_packages_and_files_without_caches(tmp_path: Path) -> None:
    package = tmp_path / "code"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__" / "a.pyc").write_text("x")
    (package / "a.py").write_text("x")
    (tmp_path / "study.yaml").write_text("name: x")
    out = tmp_path / "out"
    out.mkdir()
    pack(out, [package], [tmp_path / "study.yaml"])
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["code", "code/a.py", "study.yaml"]


def test_an_upload_beyond_the_limit_is_refused_with_its_biggest_entries(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "speech.bin").write_bytes(bytes(3 * 1024**2))
    (tmp_path / "study.yaml").write_text("x")
    assert check_size(tmp_path, limit=4 * 1024**2) == 3 * 1024**2 + 1
    with pytest.raises(
        ClusterError, match=r"upload is 3 MiB, but Ray Jobs takes at most 2 MiB \(biggest: corpus 3 MiB"
    ):
        check_size(tmp_path, limit=2 * 1024**2)


def test_an_address_that_does_not_answer_is_reported_in_one_line(tmp_path: Path, closed_port: str) -> None:
    with pytest.raises(
        ClusterError, match=rf"address 'http://{closed_port}' does not answer as a Ray dashboard"
    ) as raised:
        submit(f"http://{closed_port}", tmp_path, "true")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"/": (401, "Unauthorized")}, "requires a token, but there is none here; copy ~/.ray/auth_token"),
        (JOBS | {"/api/jobs/": (403, "Forbidden")}, "requires a token, but there is none here"),
        (
            JOBS | {"/api/jobs/": (500, "No available agent to submit job, please try again later.")},
            r"the cluster at '127.0.0.1:\d+' answers, but no job agent is up on its head: submit again half a minute",
        ),
        (
            JOBS | {"/api/jobs/": (500, "Traceback (most recent call last):\n  File x\nKeyError: 'head'\n")},
            r"the cluster at '127.0.0.1:\d+' does not take the job \(KeyError: 'head'\)",
        ),
        (JOBS | {"/api/jobs/": (413, "Too large")}, r"does not take the job \(.* status code 413: Too large\)"),
    ],
    ids=["no token", "token refused", "no agent", "fault of the server", "refused"],
)
def test_a_refusal_of_the_dashboard_is_reported_with_its_cause_in_one_line(
    answers: Answers, expected: str, tmp_path: Path, no_token: Path
) -> None:
    folder = make_upload(tmp_path)
    with serve(answers) as server, pytest.raises(ClusterError, match=expected) as raised:
        submit(server, folder, "true")
    assert "\n" not in str(raised.value)


def test_the_given_address_has_precedence_over_rays_variables(
    tmp_path: Path, no_token: Path, monkeypatch: pytest.MonkeyPatch, closed_port: str
) -> None:
    folder = make_upload(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", closed_port)
    with serve(JOBS | {"/api/jobs/": (200, '{"job_id": "a", "submission_id": "a"}')}) as server:
        assert submit(server, folder, "true") == SubmittedJob("a", f"http://{server}")
    assert os.environ["RAY_ADDRESS"] == closed_port


def make_upload(folder: Path) -> Path:
    (folder / "upload").mkdir()
    (folder / "upload" / "study.yaml").write_text("name: x")
    return folder / "upload"
