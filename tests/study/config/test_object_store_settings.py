"""What a study file may say of an object store, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import UserError
from model.strict import validate
from study.config.object_store import ObjectStoreSettings
from study.config.study_file import StudyFile, make_base_recipe, read_study
from study.execution.checks import check_object_store
from study.ledger.same_study import refuse_change
from study.tracking.mlflow_store import artifact_location


def read(tmp_path: Path, text: str) -> StudyFile:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: probe\ncorpus: corpora/demo\ntrials: 0\n{text}")
    return read_study(path)


def test_without_the_key_everything_is_in_the_studys_folder(tmp_path: Path) -> None:
    assert read(tmp_path, "").object_store == ObjectStoreSettings(checkpoints=None, artifacts=None, wait_seconds=300.0)


def test_urls_are_kept_without_the_last_slash(tmp_path: Path) -> None:
    study = read(tmp_path, "object_store: {checkpoints: 's3://bucket/a/', artifacts: 'file:///mnt/store'}")
    assert (study.object_store.checkpoints, study.object_store.artifacts) == ("s3://bucket/a", "file:///mnt/store")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("bucket/prefix", r"is 'bucket/prefix', but must be a URL such as s3://BUCKET/PREFIX; correct it"),
        ("s3://", r"is 's3://', but must be a URL such as s3://BUCKET/PREFIX; correct it"),
        ("s3://bucket/a*", r"is 's3://bucket/a\*', but must be a URL"),
        ("s3://key:secret@bucket", r"must not hold a user or a password; set AWS_ACCESS_KEY_ID and AWS_SECRET_"),
    ],
)
def test_what_is_no_url_or_holds_a_password_is_refused(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, f"object_store: {{checkpoints: '{url}'}}")
    assert "key:secret" not in str(caught.value)


def test_a_wait_that_other_workers_would_not_outlast_is_refused() -> None:
    with pytest.raises(UserError, match=r"'wait_seconds' is 1800.* less than or equal to 1500"):
        validate(ObjectStoreSettings, {"wait_seconds": 1800}, "object_store")


def test_another_store_makes_no_other_study(tmp_path: Path) -> None:
    before = read(tmp_path, "")
    after = read(tmp_path, "object_store: {checkpoints: 's3://bucket/a', wait_seconds: 10}")
    refuse_change(tmp_path, (before, make_base_recipe(before)), (after, make_base_recipe(after)))


def test_artifacts_beside_a_server_are_refused_since_it_has_a_place_of_its_own(tmp_path: Path) -> None:
    study = read(tmp_path, "object_store: {artifacts: 's3://bucket/a'}\ntracking: http://127.0.0.1:5000")
    with pytest.raises(UserError, match=r"^object_store.artifacts is 's3://bucket/a', but tracking is an MLflow serv"):
        check_object_store(study)


def test_a_new_experiment_of_a_database_has_its_artifacts_under_the_url_or_in_the_folder(tmp_path: Path) -> None:
    database = "sqlite:///runs.db"
    assert artifact_location(database, tmp_path, "s3://bucket/a") == "s3://bucket/a"
    assert artifact_location(database, tmp_path, None) == (tmp_path / "artifacts").as_uri()
    assert artifact_location("http://127.0.0.1:5000", tmp_path, None) is None
