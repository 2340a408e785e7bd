"""Preparations by processes of their own, of a source that takes seconds; features; what a corpus holds."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import sys
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from unittest import mock

import soundfile
from chaos.study_process import CommandProcess
from recordings import noise

from model.corpora.corpus import Corpus, read_corpus
from model.data import features
from model.recipe.files import named_recipe, with_values
from model.training.prepare import prepare

PARTS, PART = 8, 256  # of the source, and utterances in each: as many as a preparation checks together
RATE = 44_100
VOCABULARY = 40  # pieces that the demo's miniature can give
ORPHANS_WITHIN = 60.0  # seconds; two on a quiet machine


def write_talk(folder: Path, parts: int = PARTS, seconds: float = 1.0) -> Path:
    """A table of stretches of one recording, each to be resampled; no two of them are equal."""
    folder.mkdir()
    soundfile.write(folder / "talk.wav", noise(0, 60.0, RATE), RATE)
    rows = ["audio\ttext\tset\tstart\tend\tid"]
    for number in range(parts * PART):
        start, length = 0.2 * (number % PART), seconds + 0.01 * (number // PART)
        set_name = "dev" if number % 8 == 0 else "train"
        rows.append(f"talk.wav\tword {number}\t{set_name}\t{start:.2f}\t{start + length:.2f}\tu{number}")
    (folder / "talk.tsv").write_text("\n".join(rows) + "\n")
    return folder / "talk.tsv"


@contextlib.contextmanager
def start_preparation(table: Path, out: Path, *options: str) -> Iterator[CommandProcess]:
    """Prepare a table while the block runs; nothing of it is left behind."""
    command = [sys.executable, "-m", "study", "prepare", "table", str(table), "--out", str(out), "--jobs", "2"]
    run = CommandProcess([*command, *options])
    try:
        yield run
    finally:
        run.close()


def list_done(out: Path) -> dict[str, int]:
    """The results of parts that a draft of the corpus holds, each with the time at which it was written."""
    results = (out.parent / f".{out.name}.draft" / "parts").glob("[!.]*.jsonl")
    return {path.name: path.stat().st_mtime_ns for path in results}


def read_files(folder: Path) -> dict[str, bytes]:
    """All files of a corpus by their paths; of the compressed ones, what they hold, because gzip writes the time."""
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: gzip.decompress(one) if name.endswith(".gz") else one for name, one in contents.items()}


def list_drafts(out: Path) -> list[str]:
    """What lies beside a corpus that is made or was."""
    return sorted(path.name for path in out.parent.glob(f".{out.name}.*"))


def wait_for_orphans(*runs: CommandProcess) -> None:
    """Wait until nothing runs that these commands started. No process ends it: it has to end by itself."""
    deadline = time.monotonic() + ORPHANS_WITHIN
    while left := [line for run in runs for line in run.list_commands()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def compute_in_small_parts(folder: Path, start: Barrier | None = None, wait: float = 0.0) -> None:
    """Tokenizer, arrays and features of a corpus, as before a study's first trial, with two utterances to a part.

    Processes with the same barrier begin at the same time, some a while later.
    """
    recipe = with_values(named_recipe("tiny", str(folder)), {"tokenizer.vocabulary": VOCABULARY})
    if start is not None:
        start.wait()
        time.sleep(wait)
    with mock.patch.object(features, "PART_UTTERANCES", 2):
        prepare(recipe)


def copy_corpus(corpus: Corpus, folder: Path) -> Path:
    """The corpus without what was computed of it."""
    shutil.copytree(corpus.folder, folder, ignore=shutil.ignore_patterns("cache"))
    assert read_corpus(folder).fingerprint == corpus.fingerprint
    return folder


def compute_alone(corpus: Corpus, folder: Path) -> Path:
    """What an undisturbed process computes."""
    copy = copy_corpus(corpus, folder / "alone")
    compute_in_small_parts(copy)
    return copy / "cache"
