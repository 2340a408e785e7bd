"""`validate --on PROFILE` asks this machine for nothing that only the cluster has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.main import app

PROFILE = {"kind": "ray", "storage": "/scratch/studies", "dashboard": "http://10.0.0.1:8265"}
STUDY = {
    "name": "far-away",
    "corpus": "/corpora/nowhere",
    "recipe": {"base": "tiny"},
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
    "trials": 4,
    "baselines": ["ed"],
    "workers": {"count": 64, "cpus": 32, "gpus": 1},
    "tracking": "http://mlflow.nowhere:5000",
    "storage": "/nowhere/studies",
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that cannot run here, beside a profile called `lab`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "lab.yaml").write_text(yaml.safe_dump(PROFILE))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return Path("study.yaml")


def test_a_study_that_only_a_cluster_can_run_is_valid_there(study: Path) -> None:
    result = CliRunner().invoke(app, ["validate", str(study), "--on", "lab"])
    assert result.exit_code == 0, result.exception
    assert result.output.splitlines() == [
        "study.yaml: 5 trials (1 baselines first), 64 workers with 32 CPUs and 1 GPUs each; searches ctc_weight",
        "what the cluster has is not checked yet; do it with: decred-study preflight study.yaml --on lab",
    ]


def test_without_a_cluster_the_same_study_is_refused(study: Path) -> None:
    result = CliRunner().invoke(app, ["validate", str(study)])
    assert isinstance(result.exception, UserError)
    assert "workers.count 64 x workers.cpus 32 needs 2048 CPUs" in str(result.exception)


def test_faults_of_the_study_file_and_of_the_profile_are_found(study: Path) -> None:
    study.write_text(yaml.safe_dump(STUDY | {"recipe": {"base": "tiny", "set": {"encoder.layres": 3}}}))
    result = CliRunner().invoke(app, ["validate", str(study), "--on", "lab"])
    assert isinstance(result.exception, UserError)
    assert "encoder.layres" in str(result.exception)
    study.write_text(yaml.safe_dump(STUDY))
    Path("clusters/lab.yaml").write_text(yaml.safe_dump(PROFILE | {"storage": "studies"}))
    result = CliRunner().invoke(app, ["validate", str(study), "--on", "lab"])
    assert isinstance(result.exception, UserError)
    assert "'studies' must be an absolute path" in str(result.exception)
