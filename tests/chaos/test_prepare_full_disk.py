"""A disk that fills up while a corpus is prepared, or its features: one line, and the same command goes on."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from chaos.bad_sources import UTTERANCES, assert_prepared, assert_refused, run_prepare, write_rows
from chaos.faults import Disk
from chaos.preparing import (
    compute_alone,
    compute_in_small_parts,
    copy_corpus,
    list_done,
    list_drafts,
    read_files,
    start_preparation,
    wait_for_orphans,
    write_talk,
)
from small_disk import mount_small_disk

from model.corpora import parts, preparation
from model.corpora.corpus import Corpus
from model.data import features
from model.errors import UserError

chaos = pytest.mark.chaos
FULL = "cannot be written (No space left on device); make room, then start the same command again\n"


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@chaos
def test_a_disk_that_fills_with_copies_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_talk(tmp_path / "source", seconds=0.2)
    with mount_small_disk(tmp_path / "disk", "5m") as disk:
        out = disk / "out"
        done: dict[str, int] = {}
        for size in ("5m", "5m", "9m"):
            resize(disk, size)
            with start_preparation(table, out) as run:
                assert (run.wait_for_end(), run.output) == (2, f"error: corpus {out}: {FULL}")
                wait_for_orphans(run)
            now = list_done(out)
            assert now | done == now, "a part was lost, or done again"
            assert now
            done = now
        resize(disk, "100m")
        with start_preparation(table, out) as run:
            assert run.wait_for_end() == 0, run.output
        with start_preparation(table, Path("whole")) as run:
            assert run.wait_for_end() == 0, run.output
        assert read_files(out) == read_files(Path("whole"))
        assert list_drafts(out) == []


def fill_before(name: str, disk: Disk) -> mock._patch[Callable[..., object]]:
    """Have the disk full when the preparation comes to this function."""
    function = getattr(preparation, name)

    def fill_then(*values: object) -> object:
        disk.fill()
        return function(*values)

    return mock.patch.object(preparation, name, fill_then)


@chaos
@pytest.mark.parametrize("step", ["recover", "_check_all", "assemble", "replace_file", "publish"])
def test_a_disk_that_is_full_at_a_step_is_one_line_and_costs_no_corpus(step: str, disk: Disk, tmp_path: Path) -> None:
    rows = [{"audio": f"train-{number}.wav", "start": "0.1"} for number in range(3)]
    out = disk.folder / "out"
    assert run_prepare("table", write_rows(tmp_path / "old"), "--out", out).code == 0
    before = read_files(out)
    table = write_rows(tmp_path / "new", *rows)
    with mock.patch.object(parts, "SEGMENTS", 2):
        with fill_before(step, disk):
            ended = run_prepare("table", table, "--out", out)
        if step != "publish":  # a rename needs no room
            assert (ended.code, ended.out, ended.err) == (2, "", f"error: corpus {out}: {FULL}")
            assert read_files(out) == before
        disk.free()
        ended = run_prepare("table", table, "--out", out)
    assert_prepared(ended, out, UTTERANCES + len(rows), {})
    assert list_drafts(out) == []


@chaos
def test_a_disk_that_is_full_before_anything_is_written_is_one_line(disk: Disk, tmp_path: Path) -> None:
    table = write_rows(tmp_path / "source")
    disk.fill()
    ended = run_prepare("table", table, "--out", disk.folder / "a" / "out")
    assert_refused(
        ended, r"corpus .*: cannot be written \(No space left on device\); make room, then start the same com"
    )
    disk.free()
    assert run_prepare("table", table, "--out", disk.folder / "a" / "out").code == 0


@chaos
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_disk_that_fills_with_features_is_one_line_and_parts_that_are_there_are_kept(
    at: int, corpus: Corpus, disk: Disk, tmp_path: Path
) -> None:
    copy = copy_corpus(corpus, disk.folder / "corpus")
    count, write_part = itertools.count(), features.write_part

    def fill_at(part: features.FeaturePart) -> int:
        if next(count) == at:
            disk.fill()
        return write_part(part)

    with (
        mock.patch.object(features, "write_part", fill_at),
        mock.patch.object(features, "run_in_processes", lambda function, tasks, jobs: map(function, tasks)),
        pytest.raises(
            UserError, match=r"features cannot be kept there \(No space left on device\); make room, or copy"
        ),
    ):
        compute_in_small_parts(copy)
    written = {path: path.stat().st_mtime_ns for path in copy.rglob("part-*.npy")}
    assert len(written) == at
    assert not list(copy.rglob(".part-*"))
    disk.free()
    compute_in_small_parts(copy)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert read_files(copy / "cache") == read_files(compute_alone(corpus, tmp_path))


@chaos
@pytest.mark.parametrize("is_there", [[], ["*.model"], ["*.model", "*.arrow"]])
def test_a_disk_that_is_full_for_tokenizer_or_arrays_is_one_line(
    is_there: list[str], corpus: Corpus, disk: Disk, tmp_path: Path
) -> None:
    copy = copy_corpus(corpus, disk.folder / "corpus")
    alone = compute_alone(corpus, tmp_path)
    for path in (path for pattern in is_there for path in alone.rglob(pattern)):
        there = copy / "cache" / path.relative_to(alone)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    disk.fill()
    with pytest.raises(UserError, match=r"\(No space left on device\); (?:make room|give a place)") as caught:
        compute_in_small_parts(copy)
    assert "\n" not in str(caught.value)
    disk.free()
    compute_in_small_parts(copy)
    assert read_files(copy / "cache") == read_files(alone)
