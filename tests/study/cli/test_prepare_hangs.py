"""`prepare` on files that never answer: one line says where it hung, exit code 2, and all stacks are kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PREPARE = """
import sys
from dataclasses import replace
from pathlib import Path
from recordings import write_segments
from model.corpora import parts
from model.corpora.source import AudioRef, Source
from model.corpora.sources import kaldi
from study.cli import main

parts.SEGMENTS = 2  # so that there are parts for two processes
segments = write_segments(Path("recordings"), {"train": 3, "dev": 1})
segments[2] = replace(segments[2], audio=AudioRef("archive.tar", "train-2.wav"))
kaldi.read_kaldi = lambda folders: Source("small", "the source", segments)
main.main()
"""


def run(tmp_path: Path, *command: str, code: str | None = None) -> tuple[int, list[str]]:
    """The exit code of `decred-study prepare ...`, and the lines that it printed as errors."""
    start = ["-m", "study"] if code is None else ["-c", code]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *start, "prepare", *command, "--out", "out", "--stall-seconds", "2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    return done.returncode, done.stderr.splitlines()


def read_stacks(line: str) -> str:
    found = re.search(r"all threads are in (\S+\.txt)\.", line)
    assert found, line
    return Path(found[1]).read_text()


def test_a_table_that_never_answers_is_named_as_what_reading_the_source_waits_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.tsv")
    code, lines = run(tmp_path, "table", "table.tsv")
    assert (code, len(lines)) == (2, 1), lines
    assert re.match(
        r"error: reading the source made no progress for \d+ s \(--stall-seconds 2\) in \S+:\d+ in ", lines[0]
    )
    assert "model/corpora/sources/table_rows.py:" in lines[0]
    assert "in read_table" in read_stacks(lines[0])


@pytest.mark.parametrize("jobs", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_an_archive_that_never_answers_is_named_whichever_process_reads_it(jobs: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "archive.tar")
    code, lines = run(tmp_path, "kaldi", "data", "--jobs", str(jobs), code=PREPARE)
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith("error: the preparation of the corpus made no progress for ")
    assert "called at model/corpora/containers.py:" in lines[0]
    assert ("in its process " in lines[0]) == (jobs == 2)
    assert lines[0].endswith("then start the same command again, which goes on where it was")
    assert "in check_part" in read_stacks(lines[0])
