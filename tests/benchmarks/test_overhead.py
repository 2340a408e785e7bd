"""What a trial costs beyond its training: a study of a trivial recipe, three reports a trial, one trial at a time."""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from model.corpora.corpus import Corpus
from study.config.places import study_folder
from study.config.study_file import read_study
from study.ledger.events import TrialEpoch, TrialStarted
from study.ledger.ledger import Ledger
from study.runner import Work, run_study

TRIALS = 12
# Seconds a trial as Ray's documentation has it: a TorchTrainer within a Tune trial, by the number of its workers.
TITLE = "seconds that a trial costs beyond its training"
HEADER = ("trials of", "s a trial", "fewest", "most", "s to the first report of all", "documented s a trial")
DOCUMENTED = {1: 28.5, 2: 30.0}


@pytest.mark.speed
@pytest.mark.parametrize("workers", DOCUMENTED)
def test_overhead_of_a_trial(
    workers: int,
    stub: Work,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    add_row: Callable[..., None],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUB_SECONDS", "0")
    path = tmp_path / "study.yaml"
    study = {
        "name": "trivial",
        "corpus": str(corpus.folder),
        "recipe": {"base": "tiny", "set": {"training.epochs": 3, "training.seed": 0}},
        "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
        "trials": TRIALS,
        "baselines": [],
        "early_stopping": {"rule": "none"},
        "workers": {"count": workers, "cpus": 1, "concurrent_trials": 1},
    }
    path.write_text(yaml.safe_dump(study))
    assert run_study(path, console=Console(file=io.StringIO()), work=stub) == 0
    events = Ledger.open(study_folder(read_study(path))).log.read()
    began = [event.time for event in events if isinstance(event, TrialStarted)]
    first_report = next(event.time for event in events if isinstance(event, TrialEpoch))
    seconds = [after - before for before, after in itertools.pairwise(began[1:])]
    assert len(seconds) == TRIALS - 2
    row = (
        f"{workers} worker{'s' * (workers > 1)}",
        f"{statistics.median(seconds):.2f}",
        f"{min(seconds):.2f}",
        f"{max(seconds):.2f}",
        f"{first_report - began[0]:.1f}",
        f"{DOCUMENTED[workers]:.1f}",
    )
    add_row(TITLE, HEADER, row)
