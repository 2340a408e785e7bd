"""Features that several processes compute at the same time, or that are killed meanwhile: the same whole files."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import pytest
from chaos.preparing import (
    compute_alone,
    compute_in_small_parts,
    copy_corpus,
    read_files,
    start_preparation,
    wait_for_orphans,
    write_talk,
)
from chaos.study_process import CommandProcess, wait_until
from processes import FORKSERVER, SECONDS

from model.corpora.corpus import Corpus, read_corpus
from model.data.features import feature_folder

chaos = pytest.mark.chaos
COMPUTE = """
import sys
from pathlib import Path
from model.corpora.corpus import read_corpus
from model.data import features
from model.runtime.processes import run_in_processes
features.PART_UTTERANCES = 128
run = lambda function, parts: run_in_processes(function, parts, 2)
features.compute_features(read_corpus(Path(sys.argv[1])), "train", 0.9, run)
"""


@chaos
@pytest.mark.parametrize("apart", [0.0, 0.5], ids=["at once", "one after the other"])
def test_two_processes_that_prepare_the_same_trainings_end_with_the_same_whole_files(
    apart: float, corpus: Corpus, tmp_path: Path
) -> None:
    copy = copy_corpus(corpus, tmp_path / "corpus")
    start = FORKSERVER.Barrier(2)
    processes = [FORKSERVER.Process(target=compute_in_small_parts, args=(copy, start, wait)) for wait in (0.0, apart)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    assert read_files(copy / "cache") == read_files(compute_alone(corpus, tmp_path))


@chaos
def test_features_whose_computing_is_killed_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with start_preparation(write_talk(tmp_path / "source", parts=4), tmp_path / "corpus") as run:
        assert run.wait_for_end() == 0, run.output
    folder = feature_folder(read_corpus(tmp_path / "corpus"), "train", 0.9)

    def list_parts() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.npy")}

    def has_more_parts(count: int) -> bool:
        return len(list_parts()) > count

    done: dict[str, int] = {}
    for _ in range(3):
        run = CommandProcess([sys.executable, "-c", COMPUTE, str(tmp_path / "corpus")])
        try:
            wait_until(partial(has_more_parts, len(done)), run, "it has no part")
            time.sleep(0.1)
            run.kill()
            wait_for_orphans(run)
        finally:
            run.close()
        now = list_parts()
        assert now | done == now, "a part was lost, or done again"
        done = now
    run = CommandProcess([sys.executable, "-c", COMPUTE, str(tmp_path / "corpus")])
    assert run.wait_for_end() == 0, run.output
    wait_for_orphans(run)
    now = list_parts()
    assert now | done == now
    whole = {name: (folder / name).read_bytes() for name in now}
    for name in now:
        (folder / name).unlink()
    run = CommandProcess([sys.executable, "-c", COMPUTE, str(tmp_path / "corpus")])
    assert run.wait_for_end() == 0, run.output
    assert {name: (folder / name).read_bytes() for name in list_parts()} == whole
