"""Options of `decred-study prepare` that cannot be meant, and places where no corpus can be made."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.bad_sources import (
    UTTERANCES,
    assert_prepared,
    assert_refused,
    run_prepare,
    write_cuts,
    write_kaldi,
    write_rows,
)
from small_disk import mount_small_disk

from model.corpora.corpus import read_corpus

NOBODY = 65534

# Options, and the words of the line that refuses them.
OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown check": (("--rule", "silence=drop"), r"--rule names check 'silence'; did you mean 'silent'\?"),
    "no check": (("--rule", "=drop"), r"--rule names check ''; known: "),
    "a rule that the check has not": (
        ("--rule", "missing=keep"),
        r"--rule missing=keep: must be missing=drop or fatal",
    ),
    "no rule": (("--rule", "silent"), r"--rule silent=: must be silent=drop or keep or fatal"),
    "a rule of words": (("--rule", "silent=drop them"), r"--rule silent=drop them: must be silent=drop or"),
    "no role": (("--set", "train"), r"--set train: must be NAME=train, dev, test, dev:out, test:out or none"),
    "no set": (("--set", "=train"), r"--set =train: must be NAME=train, dev, test"),
    "an unknown role": (("--set", "train=valid"), r"--set train=valid: must be NAME=train, dev, test"),
    "two roles": (("--set", "train=dev=test"), r"--set train=dev=test: must be NAME=train, dev, test"),
    "an unknown domain": (("--set", "dev=dev:far"), r"--set dev=dev:far: must be NAME=train, dev, test"),
    "training out of domain": (("--set", "train=train:out"), r"--set train=train:out: must be NAME=train, dev, test"),
    "an unknown set": (("--set", "tset=test"), r"table table.tsv: has no set 'tset'; its sets are train, dev"),
    "no set at all": (
        ("--set", "train=none", "--set", "dev=none"),
        r"table table.tsv: all of its sets are left out; leave in one at least",
    ),
    "an unknown normaliser": (("--normaliser", "bacis"), r"normaliser 'bacis' is unknown; did you mean 'basic'\?"),
    "a seed of words": (("--seed", "x"), r"Invalid value for '--seed': .*integer"),
    "a negative number of processes": (("--jobs", "-1"), r"Invalid value for '--jobs': .* 0"),
    "an unknown option": (("--copies",), r"[Nn]o such option: --copies"),
    "a second table": (("other.tsv",), r"unexpected extra argument"),
    "a fatal check that is not passed": (("--rule", "no-text=fatal"), r"1 of its utterances: no text under the normal"),
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = write_rows(tmp_path / "source", {"audio": "bad.wav", "text": "?"})
    shutil.copy(tmp_path / "source" / "train-0.wav", tmp_path / "source" / "bad.wav")
    return path


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_cannot_be_meant_are_refused(kind: str, table: Path, tmp_path: Path) -> None:
    options, words = OPTIONS[kind]
    assert_refused(run_prepare("table", table, "--out", tmp_path / "out", *options), words)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("name", ["a/b", "../up", "a b", "x" * 5000, "é\U0001f600", "a\nb: c", "yes", "1", "\udce9"])
def test_a_corpus_may_have_any_name(name: str, table: Path, tmp_path: Path) -> None:
    ended = run_prepare("table", table, "--out", tmp_path / "out", "--name", name)
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, {"no-text": 1})
    assert corpus.name == name
    ended = run_prepare("table", table, "--out", tmp_path / "out", "--name", name)
    assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, {"no-text": 1})


def make_other_corpus(out: Path) -> None:
    source = out.parent / "other-source"
    ended = run_prepare("table", write_rows(source), "--out", out, "--name", "other")
    assert ended.code == 0, ended
    shutil.rmtree(source)


def fill(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").touch()


# What is where the corpus is to be, and the words of the line that refuses it.
PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (Path.touch, r"corpus .*out: exists and is no corpus; give a new or empty folder as --out"),
    "a folder of other things": (fill, r"corpus .*out: exists and is no corpus; give a new or empty folder as --out"),
    "another corpus": (
        make_other_corpus,
        r"corpus .*out: holds corpus 'other', not 'table'; give another --out or remov",
    ),
    "a device": (lambda out: out.symlink_to("/dev/null"), r"exists and is no corpus|cannot be written"),
    "a pipe": (os.mkfifo, r"corpus .*out: exists and is no corpus; give a new or empty folder as --out"),
    "a link to itself": (lambda out: out.symlink_to(out), r"corpus .*out: is a link to itself; give another --out"),
    "a damaged corpus": (
        lambda out: (out.mkdir(), (out / "corpus.yaml").write_bytes(b"\xff")),
        r"out/corpus.yaml: cannot be read \(it is not UTF-8 text\)",
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_in_the_corpus_place_is_never_replaced(kind: str, table: Path, tmp_path: Path) -> None:
    plant, words = PLACES[kind]
    out = tmp_path / "out"
    plant(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert_refused(run_prepare("table", table, "--out", out), words)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("source/table.tsv/out", r"cannot be written \(Not a directory\); give another --out"),
        ("x" * 300, r"cannot be written \(File name too long\); give another --out"),
        ("x" * 250, r"cannot be written \(File name too long\); give another --out"),
        ("/dev/null/out", r"cannot be written \(Not a directory\); give another --out"),
        ("", r"exists and is no corpus; give a new or empty folder as --out"),
        ("/", r"exists and is no corpus; give a new or empty folder as --out|cannot be written"),
        ("source", r"exists and is no corpus; give a new or empty folder as --out"),
        ("source/..", r"exists and is no corpus; give a new or empty folder as --out"),
    ],
)
def test_a_place_where_no_corpus_can_be_is_refused(out: str, words: str, table: Path, tmp_path: Path) -> None:
    assert_refused(run_prepare("table", table, "--out", tmp_path / out), words)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_disk_that_may_not_be_written_is_refused(table: Path, tmp_path: Path) -> None:
    with mount_small_disk(tmp_path / "disk", "64k") as disk:
        assert os.system(f"mount -o remount,ro {disk}") == 0
        ended = run_prepare("table", table, "--out", disk / "out")
        assert_refused(ended, r"cannot be written \(Read-only file system\); give another --out")


def test_missing_folders_above_a_corpus_are_made_and_a_link_stays_one(table: Path, tmp_path: Path) -> None:
    ended = run_prepare("table", table, "--out", tmp_path / "a" / "b" / "c")
    assert_prepared(ended, tmp_path / "a" / "b" / "c", UTTERANCES + 1, {"no-text": 1})
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b" / "c")
    assert run_prepare("table", table, "--out", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c"]


def test_a_corpus_is_not_replaced_by_one_that_is_made_of_its_own_files(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_prepare("table", table, "--out", out).code == 0
    (tmp_path / "link").symlink_to(out / "audio")
    copy = next((out / "audio").rglob("*.flac"))
    row = {"audio": str(tmp_path / "link" / copy.relative_to(out / "audio")), "text": "again"}
    again = write_rows(tmp_path / "again", row)
    again = again.rename(again.with_name("table.tsv"))
    words = r"lies inside the corpus folder .*out; give another --out"
    assert_refused(run_prepare("table", again, "--out", out, "--no-copy"), words)
    assert read_corpus(out).sets["train"].utterances == 3


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder of an ordinary user's, who runs the command; root may read and write whatever there is."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)
    else:
        yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


def forbid(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).chmod(0)


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        ("table", "train-1.wav", {"unreadable": 1}),
        ("table", "table.tsv", r"table.tsv: cannot be read \(Permission denied\); give the path of a TSV file"),
        ("table", ".", r"cannot be read \(Permission denied\)"),
        (
            "kaldi",
            "audio/train.wav",
            r"none of the 3 utterances of set 'train' can be used \(3 left out: audio cannot be",
        ),
        ("kaldi", "audio", r"none of the 3 utterances of set 'train' can be used"),
        ("kaldi", "data/train/text", r"text: cannot be read \(Permission denied\); make it readable"),
        ("kaldi", "data/train", r"cannot be read \(Permission denied\); give another path"),
        ("manifest", "cuts_train.jsonl", r"cuts_train.jsonl: cannot be read \(Permission denied\); give the path of"),
    ],
)
def test_what_may_not_be_read_is_found_or_refused(
    kind: str, name: str, found: dict[str, int] | str, as_nobody: Path
) -> None:
    source = as_nobody / "source"
    source.mkdir()
    made = {"table": write_rows, "kaldi": write_kaldi, "manifest": write_cuts}[kind](source)
    paths = made if isinstance(made, list) else [made]
    forbid(name)(source)
    ended = run_prepare(kind, *paths, "--out", as_nobody / "out")
    if isinstance(found, str):
        assert_refused(ended, found)
    else:
        assert_prepared(ended, as_nobody / "out", UTTERANCES, found)


def test_a_place_that_may_not_be_written_is_refused(as_nobody: Path) -> None:
    table = write_rows(as_nobody / "source")
    for mode in (0o500, 0):
        (as_nobody / "closed").mkdir(exist_ok=True)
        (as_nobody / "closed").chmod(mode)
        ended = run_prepare("table", table, "--out", as_nobody / "closed" / "out")
        assert_refused(ended, r"corpus .*: cannot be written \(Permission denied\); give another --out")
