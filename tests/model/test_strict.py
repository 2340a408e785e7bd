from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.strict import read_yaml, write_atomically


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "is not valid YAML .*key 'a' is given twice"),
        (b"a: [1, 2\n", "is not valid YAML"),
        (b"- 1\n", "holds list, but must be a mapping of keys to values"),
        (b"\xff\xfe\x00", r"cannot be read \(it is not UTF-8 text\)"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(tmp_path / "file.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: cannot be read \(No such file or directory\)"):
        read_yaml(tmp_path / "none.yaml")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/below.yaml: cannot be written \(.*\); give a place that can"):
        write_atomically(tmp_path / "file" / "below.yaml", "a: 1\n")


def test_a_full_disk_is_the_cause_of_the_error_and_keeps_the_old_file_and_no_draft(small_disk: Path) -> None:
    path = small_disk / "file"
    write_atomically(path, b"as it was" * 1000)
    with pytest.raises(UserError, match=r"file: cannot be written \(No space left on device\)") as caught:
        write_atomically(path, b"y" * 400_000)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert [path.name for path in small_disk.iterdir()] == ["file"]
    assert path.read_bytes() == b"as it was" * 1000
    write_atomically(path, b"z" * 100_000)


def test_a_file_and_its_folders_are_synced_in_the_order_in_which_they_become_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        events.append(f"sync {os.path.relpath(os.readlink(f'/proc/self/fd/{descriptor}'), tmp_path)}")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        events.append(f"move to {target.relative_to(tmp_path)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_atomically(tmp_path / "new" / "folder" / "file", "text")
    draft = f"sync new/folder/.file.{os.getpid()}"
    assert events == ["sync new", "sync .", draft, "move to new/folder/file", "sync new/folder"]
    assert (tmp_path / "new" / "folder" / "file").read_text() == "text"


def test_a_mapping_changes_only_the_keys_that_it_names() -> None:
    tiny = named_recipe("tiny", "x")
    changed = with_values(tiny, {"decoder": {"layers": 8}})
    assert changed == with_values(tiny, {"decoder.layers": 8})
    assert changed.decoder.width == tiny.decoder.width


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("epochs", "training.epochs"),
        ("training.epoch", "training.epochs"),
        ("training.epochs.x", "training.epochs"),
        ("optimiser.learning_rat", "optimiser.learning_rate"),
    ],
)
def test_an_unknown_dotted_key_is_answered_with_the_nearest(key: str, near: str) -> None:
    with pytest.raises(UserError, match=f"recipe: unknown key '{key}'; did you mean '{near}'"):
        with_values(named_recipe("tiny", "x"), {key: 1})
