"""Studies of 5,000 trials and 50,000 epochs: the memory of their process, the time to read them, and a late MLflow."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from backlogs import open_study, write_backlog, write_long_study
from chaos.epoch_order import assert_trained_once
from chaos.records import Point, list_points
from memory_growth import growth_per_trial, measure_growth, own_bytes

from model.corpora.corpus import Corpus
from study.ledger import fold_cache
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking.flush import count_outdated
from study.tracking.mlflow_runs import NUMBER
from study.tracking.mlflow_store import sqlite_file, store_uri
from study.tracking.sync import Sync

TRIALS, EPOCHS, METRICS = 5_000, 10, 20
WARM_UP_TRIALS = 50
MIB = 2**20
TITLE = "a study of 5,000 trials of 10 epochs"
HEADER = ("what", "measured", "at most")


@pytest.mark.speed
@pytest.mark.timeout(4200)
def test_a_study_of_5000_trials_ends_whole_and_its_process_grows_by_less_than_100_mib(
    corpus: Corpus, tmp_path: Path, add_row: Callable[..., None]
) -> None:
    """The growth is that from the first of twenty samples, after the 250th trial, to the last, scaled to all trials."""
    samples = measure_growth(corpus.folder, tmp_path, TRIALS, EPOCHS, 3500.0)
    growth = (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0]) * TRIALS / MIB
    per_trial = growth_per_trial(samples) / 1024
    add_row(TITLE, HEADER, ("growth of its process, MiB", f"{growth:.0f} ({per_trial:.0f} KiB a trial)", "100"))
    assert samples[-1][0] >= TRIALS
    ledger = Ledger.open(tmp_path / "studies" / "long")
    searched = [number for number, record in ledger.trials.items() if record.confirms is None]
    assert searched == list(range(TRIALS)), "those after them train finalists again"
    epochs = list(range(1, EPOCHS + 1))
    for record in ledger.trials.values():
        assert (record.state, [report.epoch for report in record.epochs]) == (TrialState.COMPLETE, epochs), record
    assert_trained_once(ledger.log.iterate())
    assert count_points_that_agree(ledger.folder) > TRIALS * EPOCHS
    assert growth < 100


@pytest.mark.speed
@pytest.mark.timeout(600)
def test_a_ledger_of_5000_trials_is_read_within_a_second_of_cpu_and_within_half_of_one_with_a_kept_fold(
    tmp_path: Path, add_row: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both bounds are for the least of three times in this process, which has imported all that it takes."""
    folder = open_study(tmp_path, "http://127.0.0.1:9").folder
    write_long_study(folder, TRIALS, EPOCHS)
    before = own_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(fold_cache, "LEAST_BYTES", sys.maxsize)  # nothing is kept
        whole = min(_time_reading(folder) for _ in range(3))
    keeping = _time_reading(folder)
    kept = min(_time_reading(folder) for _ in range(3))
    gc.collect()
    grown = (own_bytes() - before) / MIB
    add_row(TITLE, HEADER, ("reading and folding its ledger, s of CPU", f"{whole:.2f}", "1"))
    add_row(TITLE, HEADER, ("the same, and keeping the fold", f"{keeping:.2f}", "none"))
    add_row(TITLE, HEADER, ("the same with the fold that was kept", f"{kept:.2f}", "0.5"))
    add_row(TITLE, HEADER, ("growth of the process that reads it, MiB", f"{grown:.0f}", "100"))
    assert whole < 1.0
    assert kept < 0.5
    assert grown < 100


def _time_reading(folder: Path) -> float:
    """Seconds of CPU: the machine may have other work."""
    began = time.process_time()
    assert len(Ledger.open(folder).trials) == TRIALS
    return time.process_time() - began


@pytest.mark.speed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", [[], ["--json"], ["--exit-code"]], ids=["for people", "json", "exit code"])
def test_status_of_5000_trials_takes_less_than_a_second_of_cpu_with_a_kept_fold(
    words: list[str], tmp_path: Path, add_row: Callable[..., None]
) -> None:
    """Of whole processes, start and imports included: the least of five, after a first one that has kept the fold."""
    folder = open_study(tmp_path, "http://127.0.0.1:9").folder
    write_long_study(folder, TRIALS, EPOCHS)
    command = [str(Path(sys.executable).with_name("decred-study")), "status", str(folder), *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    assert not (folder / fold_cache.CACHE).exists()
    first = measure_cpu_seconds(command, environment)
    assert (folder / fold_cache.CACHE).is_file()
    least = min(measure_cpu_seconds(command, environment) for _ in range(5))
    shown = " ".join(["decred-study status", *words])
    add_row(TITLE, HEADER, (f"`{shown}` without a kept fold, once, s of CPU", f"{first:.2f}", "none"))
    add_row(TITLE, HEADER, (f"`{shown}` with it, the least of five, s of CPU", f"{least:.2f}", "1"))
    assert least < 1.0


def measure_cpu_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Of the command's process and all that it starts: other work counts only as far as it slows the cores down."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.speed
@pytest.mark.timeout(3600)
def test_a_catch_up_of_a_million_points_sends_each_and_grows_by_less_than_100_mib(
    tmp_path: Path, empty_mlflow: Path, add_row: Callable[..., None]
) -> None:
    """After a week's outage, on MLflow's SQLite store. Memory is read before the first batch, then after every run."""
    # What MLflow imports and makes once, for whatever it is sent, is no part of what a long catch-up takes.
    send_backlog(tmp_path / "other", WARM_UP_TRIALS, empty_mlflow, list[int]())
    gc.collect()
    sizes, began = [own_bytes()], time.perf_counter()
    folder = send_backlog(tmp_path / "late", TRIALS, empty_mlflow, sizes)
    minutes, growth = (time.perf_counter() - began) / 60, (max(sizes) - sizes[0]) / MIB
    points = f"{TRIALS * EPOCHS * METRICS:,}"
    add_row(TITLE, HEADER, (f"MLflow's catch-up of {points} points: growth, MiB", f"{growth:.0f}", "100"))
    add_row(TITLE, HEADER, ("the same, minutes", f"{minutes:.1f}", "none"))
    assert growth < 100
    assert count_points_that_agree(folder) == TRIALS * EPOCHS * METRICS


def send_backlog(folder: Path, trials: int, empty_mlflow: Path, sizes: list[int]) -> Path:
    """Write a study and send it whole, adding the size of this process after each run; the study's folder."""
    folder.mkdir()
    shutil.copyfile(empty_mlflow, folder / "mlflow.db")
    ledger = open_study(folder, f"sqlite:///{folder}/mlflow.db")
    write_backlog(ledger.folder, trials, EPOCHS, METRICS)
    sync, sent = Sync(ledger, lambda number: sizes.append(own_bytes())), 0
    while count := sync.sync_batch():
        sent += count
    assert sent == trials + 1, "the study's own run, and one for each trial, once"
    return ledger.folder


def count_points_that_agree(study_folder: Path) -> int:
    """Fail unless MLflow has a run for each trial, with exactly the points of its record; how many points these are.

    All tables are read by SQL: MLflow's own client takes a request for each metric of each run.
    """
    ledger, count = Ledger.open(study_folder), 0
    assert count_outdated(ledger) == 0
    database = sqlite_file(store_uri(ledger.study.tracking, ledger.folder))
    with contextlib.closing(sqlite3.connect(database)) as connection:
        runs = connection.execute("SELECT value, run_uuid FROM tags WHERE key = ?", (NUMBER,)).fetchall()
        assert sorted(int(number) for number, _ in runs) == list(ledger.trials)
        for number, run in runs:
            held: dict[str, list[Point]] = defaultdict(list)
            select = "SELECT key, step, value, timestamp FROM metrics WHERE run_uuid = ? ORDER BY step"
            for name, step, value, milliseconds in connection.execute(select, (run,)):
                held[name].append((step, str(value), milliseconds))
                count += 1
            assert held == list_points(ledger.trials[int(number)]), f"trial {number} in MLflow"
    return count
