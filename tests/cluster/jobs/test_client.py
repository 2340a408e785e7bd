"""The errors of a dashboard that refuses a job, and logs that are followed while the connection breaks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fake_dashboard import VERSION, Answers, serve
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.jobs import client
from cluster.jobs.client import Job, JobExistsError, Jobs, open_jobs

JOBS: Answers = {"/api/version": VERSION, "/api/packages/": (200, "")}  # a dashboard that has the upload already


def submit(address: str, folder: Path) -> None:
    open_jobs(address).submit(folder, "true", "demo-1", {}, {})


def test_an_address_that_does_not_answer_is_reported_in_one_line(closed_port: str) -> None:
    with pytest.raises(
        ClusterError, match=rf"address 'http://{closed_port}' does not answer as a Ray dashboard"
    ) as raised:
        open_jobs(f"http://{closed_port}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"/": (401, "Unauthorized")}, "requires a token, but there is none here; copy ~/.ray/auth_token"),
        (JOBS | {"/api/jobs/": (403, "Forbidden")}, "requires a token, but there is none here"),
        (
            JOBS | {"/api/jobs/": (500, "No available agent to submit job, please try again later.")},
            r"the cluster at 'http://127.0.0.1:\d+' answers, but no job agent is up on its head: submit again",
        ),
        (
            JOBS | {"/api/jobs/": (500, "Traceback (most recent call last):\n  File x\nKeyError: 'head'\n")},
            r"the cluster at 'http://127.0.0.1:\d+' does not do this \(KeyError: 'head'\)",
        ),
        (JOBS | {"/api/jobs/": (413, "Too large")}, r"does not do this \(.* status code 413: Too large\)"),
    ],
    ids=["no token", "token refused", "no agent", "fault of the server", "refused"],
)
def test_a_refusal_of_the_dashboard_is_reported_with_its_cause_in_one_line(
    answers: Answers, expected: str, tmp_path: Path, no_token: Path
) -> None:
    folder = make_upload(tmp_path)
    with serve(answers) as server, pytest.raises(ClusterError, match=expected) as raised:
        submit(server, folder)
    assert "\n" not in str(raised.value)


def test_the_given_address_has_precedence_over_rays_variables(
    tmp_path: Path, no_token: Path, monkeypatch: pytest.MonkeyPatch, closed_port: str
) -> None:
    folder = make_upload(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", closed_port)
    with serve(JOBS | {"/api/jobs/": (200, '{"job_id": "a", "submission_id": "a"}')}) as server:
        submit(server, folder)
    assert os.environ["RAY_ADDRESS"] == closed_port


def test_an_id_that_is_taken_is_an_error_of_its_own(tmp_path: Path, no_token: Path) -> None:
    folder = make_upload(tmp_path)
    taken = "Traceback (most recent call last):\nValueError: Job with submission_id demo-1 already exists. Please use"
    with serve(JOBS | {"/api/jobs/": (500, taken)}) as server, pytest.raises(JobExistsError, match="has a job demo-1"):
        submit(server, folder)


class Broken(Jobs):
    """Jobs whose stream breaks or ends early, at the places that a test chooses."""

    def __init__(self, log: str, breaks: list[int], states: list[str]) -> None:
        self.log, self.breaks, self.states = log, breaks, states

    def _read_stream(self, job_id: str) -> Iterator[str]:
        end = self.breaks.pop(0) if self.breaks else len(self.log)
        yield from (self.log[start : min(start + 3, end)] for start in range(0, end, 3))
        if self.breaks:
            raise ClusterError("the connection broke")

    def find(self, job_id: str) -> Job:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "GONE":
            raise ClusterError("the cluster does not answer")
        return Job(job_id, state)

    def read_log(self, job_id: str) -> str:
        return self.log


@given(st.text(max_size=40), st.data())
def test_a_log_that_is_followed_across_broken_streams_is_whole_and_has_nothing_twice(
    log: str, data: st.DataObject
) -> None:
    breaks = data.draw(st.lists(st.integers(0, len(log)), max_size=4))
    states = [*data.draw(st.lists(st.sampled_from(["RUNNING", "GONE"]), max_size=4)), "SUCCEEDED"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(client, "POLL_SECONDS", 0.0)
        assert "".join(Broken(log, breaks, states).follow("demo-1")) == log


def test_a_cluster_that_is_gone_for_good_ends_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.0)
    with pytest.raises(ClusterError, match="the cluster does not answer"):
        list(Broken("a log", [2], ["RUNNING", "GONE"]).follow("demo-1", patience=0.05))


def test_the_patience_begins_when_the_cluster_stops_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.0)
    assert "".join(Broken("a log", [2], ["GONE", "SUCCEEDED"]).follow("demo-1", patience=0.0)) == "a log"


class Silent(Jobs):
    """Jobs whose first stream gives nothing after its beginning until `wakes` says so; later streams give the log."""

    def __init__(self, log: str, begin: int, states: list[str]) -> None:
        self.dashboard, self.log, self.begin, self.states = "http://here:8265", log, begin, states
        self.streams = self.looks = 0
        self.wakes: Callable[[], bool] = lambda: False
        self._client = self

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        self.streams += 1
        if self.streams == 1:
            yield self.log[: self.begin]
            while not self.wakes():
                await asyncio.sleep(0.001)
            yield self.log[self.begin :]
        else:
            yield self.log

    def find(self, job_id: str) -> Job:
        self.looks += 1
        return Job(job_id, self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def read_log(self, job_id: str) -> str:
        return self.log


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.02)
    monkeypatch.setattr(client, "POLL_SECONDS", 0.0)


@pytest.mark.timeout(20)
def test_following_on_a_connection_that_is_dead_ends_with_the_job(short_silence: None) -> None:
    jobs = Silent("one\ntwo\n", 4, ["RUNNING", "SUCCEEDED"])
    assert "".join(jobs.follow("demo-1")) == "one\ntwo\n"
    assert jobs.streams == 1, "what is missing comes from the log"


@pytest.mark.timeout(20)
def test_what_a_job_prints_after_its_connection_died_comes_on_another_one_while_it_runs(short_silence: None) -> None:
    jobs = Silent("one\ntwo\n", 4, ["RUNNING"])
    pieces = jobs.follow("demo-1")
    assert [next(pieces), next(pieces)] == ["one\n", "two\n"]
    assert jobs.streams == 2
    pieces.close()  # type: ignore[attr-defined]


@pytest.mark.timeout(20)
def test_the_stream_of_a_job_that_prints_nothing_for_long_is_kept(
    short_silence: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Silent("one\ntwo\n", 4, ["RUNNING"])
    jobs.wakes = lambda: jobs.looks >= 5
    monkeypatch.setattr(jobs, "read_log", lambda job_id: "one\n")
    pieces = jobs.follow("demo-1")
    assert [next(pieces), next(pieces)] == ["one\n", "two\n"]
    assert jobs.streams == 1
    pieces.close()  # type: ignore[attr-defined]


def test_ctrl_c_while_a_stream_is_awaited_is_nothing_but_that() -> None:
    jobs = Silent("one\ntwo\n", 4, ["RUNNING"])

    def press() -> bool:
        asyncio.get_running_loop().call_soon(interrupt)
        return False

    def interrupt() -> None:
        raise KeyboardInterrupt

    jobs.wakes = press
    with pytest.raises(KeyboardInterrupt):
        list(jobs.follow("demo-1"))


def make_upload(folder: Path) -> Path:
    (folder / "upload").mkdir()
    (folder / "upload" / "study.yaml").write_text("name: x")
    return folder / "upload"
