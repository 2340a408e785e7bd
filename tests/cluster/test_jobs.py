from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.jobs import check_size, pack, submit


def test_an_upload_holds_packages_and_files_without_caches(tmp_path: Path) -> None:
    package = tmp_path / "code"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__" / "a.pyc").write_text("x")
    (package / "a.py").write_text("x")
    (tmp_path / "study.yaml").write_text("name: x")
    out = tmp_path / "out"
    out.mkdir()
    pack(out, [package], [tmp_path / "study.yaml"])
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["code", "code/a.py", "study.yaml"]


def test_an_upload_beyond_the_limit_is_refused_by_the_names_of_its_biggest_entries(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "speech.bin").write_bytes(bytes(3 * 1024**2))
    (tmp_path / "study.yaml").write_text("x")
    assert check_size(tmp_path, limit=4 * 1024**2) == 3 * 1024**2 + 1
    with pytest.raises(
        ClusterError, match=r"upload is 3 MiB, but Ray Jobs takes at most 2 MiB \(biggest: corpus 3 MiB"
    ):
        check_size(tmp_path, limit=2 * 1024**2)


def test_an_address_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"address 'http://127.0.0.1:9' does not take jobs") as told:
        submit("http://127.0.0.1:9", tmp_path, "true")
    assert "\n" not in str(told.value)
