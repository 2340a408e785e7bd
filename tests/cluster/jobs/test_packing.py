"""What is uploaded with a job: of a checkout and of an installation, and how large it may be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.jobs.packing import find_commit, format_size, measure, pack

MEBIBYTE = 1024**2


def write_package(folder: Path) -> Path:
    """A package with caches, and a file that no package needs."""
    for name in ("code/a.py", "code/room/b.py", "code/__pycache__/a.pyc", "code/.hidden", "code/large.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder / "code"


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_of_an_installation_everything_but_caches_and_hidden_files_is_uploaded(tmp_path: Path) -> None:
    pack(tmp_path / "out", [write_package(tmp_path / "site-packages")])
    assert list_files(tmp_path / "out") == ["code/a.py", "code/large.bin", "code/room/b.py"]


def test_of_a_checkout_what_git_ignores_stays_and_what_is_new_goes(tmp_path: Path) -> None:
    package = write_package(tmp_path / "checkout")
    (tmp_path / "checkout" / ".gitignore").write_text("*.bin\n__pycache__\n.hidden\n")
    git(tmp_path / "checkout", "init")
    git(tmp_path / "checkout", "add", "code/a.py")
    git(tmp_path / "checkout", "commit", "-m", "a")
    pack(tmp_path / "out", [package])
    assert list_files(tmp_path / "out") == ["code/a.py", "code/room/b.py"]


def test_a_file_that_git_knows_and_that_is_gone_is_left_out(tmp_path: Path) -> None:
    package = write_package(tmp_path / "checkout")
    git(tmp_path / "checkout", "init")
    git(tmp_path / "checkout", "add", "code/a.py", "code/room/b.py")
    (package / "a.py").unlink()
    pack(tmp_path / "out", [package])
    assert "code/a.py" not in list_files(tmp_path / "out")


def test_an_upload_is_described_by_its_size_and_its_five_largest_files(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.bin").write_bytes(bytes(1024 * (number + 1)))
    upload = measure(tmp_path)
    assert (upload.files, upload.bytes) == (7, 28 * 1024)
    assert str(upload) == "7 files, 28 KiB (largest: 6.bin 7 KiB, 5.bin 6 KiB, 4.bin 5 KiB, 3.bin 4 KiB, 2.bin 3 KiB)"


def test_an_upload_beyond_the_limit_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "speech.bin").write_bytes(bytes(3 * MEBIBYTE))
    (tmp_path / "study.yaml").write_text("x")
    assert measure(tmp_path, limit=4 * MEBIBYTE).bytes == 3 * MEBIBYTE + 1
    message = (
        r"the upload is 2 files, 3.0 MiB \(largest: corpus/speech.bin 3.0 MiB, .*\), but Ray Jobs takes at most 2.0 MiB"
    )
    with pytest.raises(ClusterError, match=message):
        measure(tmp_path, limit=2 * MEBIBYTE)


@pytest.mark.parametrize(("size", "text"), [(0, "0 KiB"), (1, "1 KiB"), (MEBIBYTE, "1.0 MiB"), (1536, "2 KiB")])
def test_sizes_are_in_kibibytes_or_mebibytes(size: int, text: str) -> None:
    assert format_size(size) == text


def test_the_commit_of_a_checkout_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert find_commit(tmp_path) is None
    write_package(tmp_path)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    clean = find_commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "code" / "a.py").write_text("changed")
    assert find_commit(tmp_path) == clean + "+"
    assert find_commit(tmp_path / "code") is None, "a folder inside another project's checkout has no commit of its own"
