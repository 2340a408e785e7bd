"""A corpus prepared by the machines of a real Ray cluster is the one that this machine alone prepares."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import BIN, Head, start_head
from recordings import write_segments

from model.corpora.corpus import read_corpus
from model.data.features import compute_features, feature_folder

SETS = {"train": 1100, "dev": 20}  # five parts, and two of features
COMPUTE = """
import sys
from functools import partial
from pathlib import Path
from cluster.tasks import run_on_cluster
from model.corpora.corpus import read_corpus
from model.data.features import compute_features
compute_features(read_corpus(Path(sys.argv[1])), "train", 1.1, partial(run_on_cluster, address=sys.argv[2]))
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head() as head:
        yield head


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of short recordings, one of which is missing."""
    folder = tmp_path_factory.mktemp("recordings")
    segments = write_segments(folder, SETS, 0.3)
    rows = [f"{Path(one.audio.file).name}\t{one.text}\t{one.set_name}" for one in segments]
    (folder / "train-5.wav").unlink()
    path = folder / "table.tsv"
    path.write_text("\n".join(["audio\ttext\tset", *rows]) + "\n")
    return path


def prepare(table: Path, out: Path, env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "decred-study", "prepare", "table", table, "--out", out, *options]
    return subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_a_cluster_prepares_what_one_machine_does(head: Head, table: Path, tmp_path: Path) -> None:
    together = prepare(table, tmp_path / "together", head.env, "--address", head.address)
    alone = prepare(table, tmp_path / "alone", head.env, "--jobs", "1")
    assert (together.returncode, alone.returncode) == (0, 0), together.stderr
    assert read_corpus(tmp_path / "together").fingerprint == read_corpus(tmp_path / "alone").fingerprint
    assert "1 left out: no such audio file (line 7: train-5.wav) [missing]" in together.stdout.splitlines()
    names = [sorted(path.name for path in (tmp_path / out).rglob("*")) for out in ("together", "alone")]
    assert names[0] == names[1]


@pytest.mark.slow
def test_a_cluster_computes_the_features_that_one_machine_does(head: Head, table: Path, tmp_path: Path) -> None:
    assert prepare(table, tmp_path / "corpus", head.env, "--no-copy").returncode == 0
    corpus = read_corpus(tmp_path / "corpus")
    command = [BIN / "python", "-c", COMPUTE, corpus.folder, head.address]
    subprocess.run(list(map(str, command)), env=head.env, check=True, timeout=100)
    folder = feature_folder(corpus, "train", 1.1)
    together = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(together) == ["part-00000.npy", "part-00001.npy"]
    shutil.rmtree(folder)
    compute_features(corpus, "train", 1.1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == together


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_one_line_and_loses_nothing(table: Path, tmp_path: Path, head: Head) -> None:
    ended = prepare(table, tmp_path / "out", head.env, "--address", "127.0.0.1:1")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: address '127.0.0.1:1' does not answer as a Ray cluster")
    assert not (tmp_path / "out").exists()
