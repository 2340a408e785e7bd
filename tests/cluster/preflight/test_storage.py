"""Which folders are the head's storage: those in which each sees what the other wrote."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.preflight.facts import Request, Storage
from cluster.preflight.storage import Probe, find_mount, look_at_storage, open_probe


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    (tmp_path / "storage").mkdir()
    return tmp_path / "storage"


def look(storage: Path, probe: Probe, folder: Path | None = None) -> Storage:
    """What a node sees whose storage lies in `folder`."""
    markers = probe.folder if folder is None else folder / probe.folder.name
    request = Request(storage=str(folder or storage), probe=str(markers), token=probe.token)
    return replace(probe.read_back("node", look_at_storage(request, "node")), mount="")


def test_the_same_folder_is_seen_from_both_sides_and_nothing_is_left_in_it(storage: Path) -> None:
    with open_probe(str(storage)) as probe:
        assert look(storage, probe) == Storage(True, has_marker=True, is_seen=True)
        assert len(list(storage.iterdir())) == 1
    assert not list(storage.iterdir())


def test_a_storage_that_is_not_there_is_no_folder(storage: Path, tmp_path: Path) -> None:
    with open_probe(str(storage)) as probe:
        assert look(storage, probe, tmp_path / "nowhere") == Storage(is_folder=False)


def test_a_copy_that_holds_the_heads_folder_without_its_marker_is_another_storage(
    storage: Path, tmp_path: Path
) -> None:
    with open_probe(str(storage)) as probe:
        other = tmp_path / "other"
        shutil.copytree(storage, other)
        (other / probe.folder.name / "head").write_text("of an earlier check")
        assert look(storage, probe, other) == Storage(True, has_marker=False)
        assert [path.name for path in other.iterdir()] == [probe.folder.name], "nothing is written into it"


def test_what_the_head_does_not_see_is_not_written_into_its_storage(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.preflight.storage.SEEN_SECONDS", 0.1)
    with open_probe(str(storage)) as probe:
        shutil.copytree(storage, tmp_path / "overlay")  # as it is below an overlay: reads go through, writes do not
        assert look(storage, probe, tmp_path / "overlay") == Storage(True, has_marker=True, is_seen=False)


def test_a_storage_in_which_no_folder_can_be_made_has_no_marker(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with open_probe(str(file)) as probe:
        assert look(file, probe) == Storage(is_folder=False)
    assert file.exists()


def test_the_mount_of_a_folder_is_the_innermost_that_holds_it(small_disk: Path) -> None:
    (small_disk / "folder").mkdir()
    assert find_mount(str(small_disk / "folder")).startswith("tmpfs ")
    assert find_mount(str(small_disk / "folder")).endswith(f" on {small_disk}")
    assert find_mount("/").endswith(" on /")


def test_a_full_storage_cannot_be_written(small_disk: Path) -> None:
    with open_probe(str(small_disk)) as probe:
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "filler").write_bytes(bytes(1024**2))
        seen = look(small_disk, probe)
    assert seen.has_marker
    assert seen.fault is not None
    assert seen.fault.startswith("No space left on device for user ")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
