"""Study folders are in the storage of the study file, a path or a file:// URI."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import UserError
from study.config.places import storage_folder, study_folder
from study.config.study_file import StudyFile


@pytest.mark.parametrize(
    ("storage", "folder"),
    [
        ("studies", "HERE/studies"),
        ("/mnt/shared", "/mnt/shared"),
        ("file:///mnt/shared", "/mnt/shared"),
        ("file://localhost/mnt/shared/", "/mnt/shared"),
        ("FILE:///mnt/my%20studies", "/mnt/my studies"),
        ("odd:name", "HERE/odd:name"),
    ],
)
def test_a_storage_is_a_path_or_a_file_uri(
    storage: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_folder(storage) == Path(folder.replace("HERE", str(tmp_path.resolve())))


@pytest.mark.parametrize(
    "storage", ["s3://bucket/studies", "gs://bucket/studies", "hdfs://node/x", "file://other-host/studies", "file://"]
)
def test_an_object_store_is_refused_with_what_is_allowed(storage: str) -> None:
    with pytest.raises(
        UserError,
        match=rf"storage is '{storage}', but must be a local or mounted path, such as /mnt/shared/studies or "
        r"file:///mnt/shared/studies: the append-only files of a study need a file system; mount it",
    ):
        study_folder(StudyFile(name="s", corpus="c", trials=0, storage=storage))
