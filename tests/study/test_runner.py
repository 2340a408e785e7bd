"""What is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.resources import Node
from model.errors import UserError
from study.runner import admitted, run_study, with_trials
from study.study_file import StudyFile, read_study


def study_file(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    study = {"name": "probe", "corpus": "corpus", "search": {"ctc_weight": {"uniform": [0.1, 0.5]}}, "trials": 1}
    path.write_text(yaml.safe_dump(study | changes))
    return path


def test_too_many_workers_are_refused_before_the_corpus_is_even_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = study_file(tmp_path, workers={"count": 4000, "cpus": 1})
    with pytest.raises(UserError, match=r"workers.count 4000 x workers.cpus 1 needs 4000 CPUs, this machine has"):
        run_study(path)
    assert not (tmp_path / "studies").exists()


def test_a_tracking_server_that_does_not_answer_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"tracking http://127.0.0.1:9 does not answer"):
        run_study(study_file(tmp_path, tracking="http://127.0.0.1:9"))
    assert not (tmp_path / "studies").exists()


def test_a_missing_corpus_is_refused_and_no_study_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="corpus"):
        run_study(study_file(tmp_path))
    assert not (tmp_path / "studies").exists()


def test_the_number_of_trials_can_be_given_and_is_checked(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    assert with_trials(study, 5).trials == 5
    assert with_trials(study, None) is study
    with pytest.raises(UserError, match="--trials"):
        with_trials(study, -1)


def test_a_given_cluster_is_counted_instead_of_this_machine(tmp_path: Path) -> None:
    study: StudyFile = read_study(study_file(tmp_path, workers={"count": 2, "cpus": 4}))
    assert admitted(study, [Node(8), Node(16)]) == 3
