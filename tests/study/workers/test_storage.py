"""A worker trains only where it sees the study's folder as the driver does, and makes nothing where it does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from study.workers.failure import FailureKind
from study.workers.messages import Close, Failed, Report, Running, Task, ToDriver, ToWorker
from study.workers.storage import StorageError, check_storage
from study.workers.worker import serve


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """The task of a trial whose driver is in its second session."""
    folder = tmp_path / "studies" / "probe"
    (folder / "trials" / "0003").mkdir(parents=True)
    (folder / "events").mkdir()
    for session in ("000001.jsonl", "000002.jsonl"):
        (folder / "events" / session).touch()
    (folder / "manifest.json").write_text(json.dumps({"id": "abc"}))
    trial = str(folder / "trials" / "0003")
    return Task("{}", "hash", trial, study_folder=str(folder), study_id="abc", session="000002.jsonl")


def folder_of(task: Task) -> Path:
    assert task.study_folder is not None
    return Path(task.study_folder)


def test_the_folder_itself_passes_with_and_without_a_checkpoint_of_the_trial(task: Task) -> None:
    """One that was removed by hand, since it was torn, is gone for everybody: the trial starts again."""
    check_storage(task, seconds=0.0)


def test_a_single_run_without_a_study_passes(tmp_path: Path) -> None:
    check_storage(Task("{}", "hash", str(tmp_path / "run")), seconds=0.0)


def test_a_missing_mount_is_named_in_one_line(task: Task) -> None:
    folder = folder_of(task)
    shutil.rmtree(folder)
    expected = rf"^node \S+ does not see the study's folder {folder} \(No such file or directory\): mount it there$"
    with pytest.raises(StorageError, match=expected):
        check_storage(task, seconds=0.0)
    assert not folder.exists()


def test_another_study_in_the_folder_is_refused(task: Task) -> None:
    with pytest.raises(StorageError, match=r"has another study in .*: mount there what the driver's machine has"):
        check_storage(replace(task, study_id="another"), seconds=0.0)


@pytest.mark.parametrize("missing", ["events/000002.jsonl", "trials/0003"])
def test_a_copy_of_the_folder_from_an_earlier_session_is_refused(missing: str, task: Task) -> None:
    path = folder_of(task) / missing
    path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(StorageError, match=r"has a copy of .* that lacks what the driver has written"):
        check_storage(task, seconds=0.0)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_manifest_that_cannot_be_read_is_refused(content: str, task: Task) -> None:
    (folder_of(task) / "manifest.json").write_text(content)
    with pytest.raises(StorageError, match="its manifest cannot be read"):
        check_storage(task, seconds=0.0)


def test_a_file_that_a_slow_file_system_shows_late_is_waited_for(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    late = folder_of(task) / "events" / "000002.jsonl"
    late.unlink()
    monkeypatch.setattr("study.workers.storage.time.sleep", lambda seconds: late.touch())
    check_storage(task, seconds=60.0)


class OneTask:
    """The worker's end of a channel that brings one task, and keeps what is sent."""

    def __init__(self, task: Task) -> None:
        self._tasks: list[ToWorker] = [task, Close()]
        self.sent: list[ToDriver] = []

    def send(self, message: ToDriver) -> None:
        self.sent.append(message)

    def receive(self) -> ToWorker:
        return self._tasks.pop(0)


def test_a_worker_that_does_not_see_the_folder_trains_nothing_and_makes_no_folder(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.workers.storage.WAIT_SECONDS", 0.0)
    shutil.rmtree(folder_of(task).parent)
    channel = OneTask(task)
    serve(channel, 0, "module:function")  # which would raise another error
    (failed,) = channel.sent
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reusable) == (FailureKind.STORAGE, False)
    assert failed.reason.startswith(f"node {failed.node} does not see the study's folder ")
    assert not folder_of(task).parent.exists()
    assert not [message for message in channel.sent if isinstance(message, Running | Report)]
