"""What `resume` starts: a study from its folder, or from its file where its job ended before it made one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jobs_here import JobsHere

from cluster.profiles.profile import RayProfile
from model.errors import UserError
from study.remote.place import Place
from study.remote.resuming import resume_study
from study.remote.submission import FILE, FROM, Submitted, submit_study


@pytest.fixture
def jobs(tmp_path: Path) -> JobsHere:
    return JobsHere(tmp_path / "uploads")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A cluster that is given by its address, whose storage a job alone knows."""
    (tmp_path / "storage").mkdir()
    profile = RayProfile(kind="ray", storage=str(tmp_path / "storage"), dashboard="http://here:8265")
    return Place("http://here:8265", profile, is_address=True)


def resume(jobs: JobsHere, place: Place) -> tuple[Submitted, list[str]]:
    lines: list[str] = []
    unknown = replace(place, profile=place.profile.model_copy(update={"storage": "/"}))
    return resume_study(jobs, unknown, "probe", {}, lines.append), lines


def submit(jobs: JobsHere, place: Place, file: Path) -> None:
    submitted = submit_study(jobs, place, file, 7, {}, print, check=False)
    assert submitted.is_new
    jobs.end()


def test_a_study_that_was_stopped_before_it_had_a_folder_is_submitted_again(
    jobs: JobsHere, place: Place, study_in: Callable[..., Path]
) -> None:
    file = study_in()
    submit(jobs, place, file)
    first = jobs.jobs[0].id
    submitted, lines = resume(jobs, place)
    assert submitted == Submitted(f"{first[:-2]}-2", is_new=True)
    command = f"decred-study submit {file} --address http://here:8265 --trials 7"
    assert lines[0] == f"study 'probe' ended before it began; its file is submitted again: {command}"
    assert jobs.commands[submitted.job] == "python -m study run study.yaml --address auto --trials 7"
    written = [yaml.safe_load((jobs.upload(job) / "study.yaml").read_text()) for job in (first, submitted.job)]
    assert written[0] == written[1]
    assert written[0]["storage"] == place.profile.storage


def test_a_study_that_has_a_folder_continues_from_it(
    jobs: JobsHere, place: Place, study_in: Callable[..., Path]
) -> None:
    submit(jobs, place, study_in())
    folder = Path(place.study_folder("probe"))
    folder.mkdir()
    (folder / "study.yaml").write_text("")
    submitted, lines = resume(jobs, place)
    assert jobs.commands[submitted.job] == f"python -m study run {folder} --address auto --resume"
    assert lines == []
    assert resume(jobs, place)[0] == Submitted(submitted.job, is_new=False), "it runs"


@pytest.mark.parametrize("reason", ["somebody else's", "removed", "an earlier version's"])
def test_a_study_whose_file_is_not_here_is_one_line_with_the_command_that_starts_it(
    reason: str, jobs: JobsHere, place: Place, study_in: Callable[..., Path]
) -> None:
    file = study_in()
    submit(jobs, place, file)
    if reason == "removed":
        file.unlink()
    jobs.end(**{"somebody else's": {FROM: "ada@laptop"}, "an earlier version's": {FILE: ""}}.get(reason, {}))
    with pytest.raises(UserError, match=r"^study 'probe' has no folder on the cluster yet, and the file ") as raised:
        resume(jobs, place)
    named = "STUDY.yaml" if reason == "an earlier version's" else file
    command = f"decred-study submit {named} --address http://here:8265 --trials 7"
    assert str(raised.value).endswith(f"has submitted is not here; start it with: {command}")
    assert "\n" not in str(raised.value)


def test_a_study_that_the_storage_does_not_have_is_one_line(jobs: JobsHere, place: Place) -> None:
    message = rf"^the cluster has no study 'probe' in {place.study_folder('probe')}; start it with: decred-study submit"
    with pytest.raises(UserError, match=message):
        resume_study(jobs, place, "probe", {}, print)
