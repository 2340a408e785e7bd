"""Studies of 5,000 trials and 50,000 epochs: the memory of their process, the time to read them, and a late MLflow."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backlogs import open_study, write_backlog, write_long_study
from memory_growth import growth_per_trial, measure_growth, own_bytes

from model.corpora.corpus import Corpus
from study.ledger import fold_cache
from study.ledger.ledger import Ledger
from study.tracking.sync import Sync

TRIALS, EPOCHS, METRICS = 5_000, 10, 20
MIB = 2**20
TITLE = "a study of 5,000 trials of 10 epochs"
HEADER = ("what", "measured", "at most")


@pytest.mark.speed
@pytest.mark.timeout(3600)
def test_memory_of_a_study_of_5000_trials(corpus: Corpus, tmp_path: Path, add_row: Callable[..., None]) -> None:
    samples = measure_growth(corpus.folder, tmp_path, TRIALS, EPOCHS, 3500.0)
    growth = (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0]) * TRIALS / MIB
    per_trial = growth_per_trial(samples) / 1024
    add_row(TITLE, HEADER, ("growth of its process, MiB", f"{growth:.0f} ({per_trial:.0f} KiB a trial)", "100"))
    assert growth < 100


@pytest.mark.speed
@pytest.mark.timeout(600)
def test_reading_the_ledger_of_a_study_of_5000_trials(
    tmp_path: Path, add_row: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_study(tmp_path, "http://127.0.0.1:9").folder
    write_long_study(folder, TRIALS, EPOCHS)
    before = own_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(fold_cache, "LEAST_BYTES", sys.maxsize)  # nothing is kept
        whole = min(_time_reading(folder) for _ in range(3))
    keeping = _time_reading(folder)
    kept = min(_time_reading(folder) for _ in range(3))
    gc.collect()
    add_row(TITLE, HEADER, ("reading and folding its ledger, s of CPU", f"{whole:.2f}", "1"))
    add_row(TITLE, HEADER, ("the same, and keeping the fold", f"{keeping:.2f}", "none"))
    add_row(TITLE, HEADER, ("the same with the fold that was kept", f"{kept:.2f}", "0.5"))
    add_row(TITLE, HEADER, ("the same, MiB", f"{(own_bytes() - before) / MIB:.0f}", "100"))
    assert whole < 1.0
    assert kept < 0.5


def _time_reading(folder: Path) -> float:
    """Seconds of CPU: the machine may have other work."""
    began = time.process_time()
    assert len(Ledger.open(folder).trials) == TRIALS
    return time.process_time() - began


@pytest.mark.speed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", [[], ["--json"], ["--exit-code"]], ids=["for people", "json", "exit code"])
def test_status_of_a_study_of_5000_trials(words: list[str], tmp_path: Path, add_row: Callable[..., None]) -> None:
    folder = open_study(tmp_path, "http://127.0.0.1:9").folder
    write_long_study(folder, TRIALS, EPOCHS)
    command = [str(Path(sys.executable).with_name("decred-study")), "status", str(folder), *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for _ in range(6):
        began = processes_cpu_seconds()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        seconds.append(processes_cpu_seconds() - began)
    shown = " ".join(["decred-study status", *words])
    add_row(TITLE, HEADER, (f"`{shown}`, s of CPU; the first time {seconds[0]:.2f}", f"{min(seconds[1:]):.2f}", "1"))
    assert min(seconds[1:]) < 1.0


def processes_cpu_seconds() -> float:
    """Of all processes that this one has started and that have ended: other work on the machine hardly counts."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.speed
@pytest.mark.timeout(3600)
def test_catch_up_of_a_million_points(tmp_path: Path, empty_mlflow: Path, add_row: Callable[..., None]) -> None:
    """After a week's outage, on MLflow's SQLite store."""
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    ledger = open_study(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    write_backlog(ledger.folder, TRIALS, EPOCHS, METRICS)
    sync = Sync(ledger)
    sent, began, sizes = sync.sync_batch(), time.perf_counter(), [own_bytes()]
    while count := sync.sync_batch():
        sent += count
        sizes.append(own_bytes())
    minutes, growth = (time.perf_counter() - began) / 60, (max(sizes) - sizes[0]) / MIB
    points = f"{TRIALS * EPOCHS * METRICS:,}"
    add_row(TITLE, HEADER, (f"MLflow's catch-up of {points} points: growth, MiB", f"{growth:.0f}", "100"))
    add_row(TITLE, HEADER, ("the same, minutes", f"{minutes:.1f}", ""))
    assert sent == TRIALS + 1
    assert growth < 100
