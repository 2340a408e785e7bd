"""kill -9 of a preparation before each step that it takes on the disk: a corpus that is replaced is never lost."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from chaos.bad_sources import write_rows
from chaos.planted_preparation import prepare_in_process
from chaos.preparing import list_drafts, read_files

from model.corpora.corpus import CORPUS_FILE, read_corpus

chaos = pytest.mark.chaos
OLD_CACHE = "cache/of-the-old-corpus"


def write_source(folder: Path, *more: dict[str, str]) -> list[str]:
    """The beginning of a command that prepares a table called `table`."""
    return ["prepare", "table", str(write_rows(folder, *more)), "--jobs", "1"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A corpus, with something in its cache."""
    code, _ = prepare_in_process([*write_source(tmp_path / "old-source"), "--out", str(tmp_path / "old")], tmp_path)
    assert code == 0
    (tmp_path / "old" / "cache").mkdir()
    (tmp_path / "old" / OLD_CACHE).touch()
    return tmp_path / "old"


@chaos
@pytest.mark.parametrize("copy", ["--copy", "--no-copy"])
@pytest.mark.parametrize("replaces", [True, False], ids=["replaces", "new"])
def test_a_kill_at_any_step_loses_no_corpus_and_the_same_command_ends_it(
    copy: str, replaces: bool, old: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    out = place / "out"
    rows = [{"audio": "train-0.wav", "start": "0.1"}, {"audio": "none.wav"}, {"audio": "train-1.wav", "start": "0.2"}]
    command = [*write_source(tmp_path / "source", *rows), "--out", str(out), copy]

    def begin() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if replaces:
            shutil.copytree(old, out)

    begin()
    code, steps = prepare_in_process(command, place)
    assert (code, list_drafts(out)) == (0, [])
    new, before = read_files(out), read_files(old)
    fingerprint = read_corpus(out).fingerprint
    met = {"old": 0, "new": 0, "none": 0}
    for step in range(steps):
        begin()
        assert prepare_in_process(command, place, kill_at=step)[0] == -signal.SIGKILL
        state = _describe(out, before, fingerprint)
        met[state] += 1
        assert replaces or state != "old"
        if replaces and state == "none":
            assert read_files(place / ".out.draft.old") == before, f"lost at step {step}"
        assert prepare_in_process(command, place)[0] == 0, f"it does not go on after step {step}"
        assert read_files(out) == new, f"something else was made after step {step}"
        assert list_drafts(out) == [], f"something was left after step {step}"
    print(f"{steps} steps: {met}")
    assert met["none"] == 1 if replaces else met["none"] > met["new"]
    assert met["new"] >= 1


def _describe(out: Path, before: dict[str, bytes], fingerprint: str) -> str:
    """Which corpus is in its place, whole."""
    if not (out / CORPUS_FILE).is_file():
        assert not out.exists()
        return "none"
    if read_corpus(out).fingerprint == fingerprint:
        return "new"
    assert read_files(out) == before
    return "old"


@chaos
def test_the_old_corpus_is_back_also_where_the_next_preparation_fails(old: Path, tmp_path: Path) -> None:
    before = read_files(old)
    out = tmp_path / "out"
    command = [*write_source(tmp_path / "source", {"audio": "none.wav"}), "--out", str(out)]
    for step in range(prepare_in_process(command, tmp_path)[1]):
        for path in (out, tmp_path / ".out.draft", tmp_path / ".out.draft.old"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(old, out)
        assert prepare_in_process(command, tmp_path, kill_at=step)[0] == -signal.SIGKILL
        if not out.exists():
            break
    else:
        pytest.fail("no kill leaves the corpus' place empty")
    assert prepare_in_process([*command, "--rule", "missing=fatal"], tmp_path)[0] == 2
    assert read_files(out) == before
    assert list_drafts(out) == [".out.draft"], "what was checked is kept"


@chaos
def test_other_things_in_the_place_of_a_corpus_that_a_kill_moved_away_cost_neither(old: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    shutil.copytree(old, tmp_path / ".out.draft.old")
    command = [*write_source(tmp_path / "source"), "--out", str(out)]
    assert prepare_in_process(command, tmp_path)[0] == 2
    assert read_files(tmp_path / ".out.draft.old") == read_files(old)
    (out / "thesis.tex").unlink()
    assert prepare_in_process([*command, "--name", "another"], tmp_path)[0] == 2
    assert read_files(out) == read_files(old)
    assert list_drafts(out) == []
