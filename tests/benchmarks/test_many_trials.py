"""A study of 2,000 trials: what one of them costs must not grow with those before it.

The first 1,980 are recorded by the study's own session without Ray, the last 20 run on Ray Tune.
"""

from __future__ import annotations

import io
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from model.corpora.corpus import Corpus
from model.recipe.files import with_values
from model.strict import write_atomically
from study.config.places import study_folder
from study.config.study_file import make_base_recipe, read_study
from study.display.board import Board
from study.early_stopping.rule import Ruling
from study.early_stopping.rules import build_rule
from study.execution.agenda import Agenda
from study.execution.session import Session
from study.ledger.events import TrialEnded, TrialPaused, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.manifest import make_manifest
from study.ledger.records import TrialRecord
from study.runner import Work, run_study
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.workers.messages import Report

TRIALS, ON_RAY, EPOCHS = 2_000, 20, 4
TITLE = "a study of 2,000 trials: ledger, rule and board, and the way from a trial's end to the next start"
HEADER = ("rule", "ms a trial at 100", "at 2,000", "s from end to start at 2,000", "most")
MOST_MILLISECONDS, MOST_SECONDS = 50.0, 0.5


def write_study(folder: Path, corpus: Corpus, rule: str, trials: int, sampler: str) -> Path:
    """The same space each time: the sampler and the budget may change between sessions."""
    content = {
        "name": "many",
        "corpus": str(corpus.folder),
        "recipe": {"base": "tiny", "set": {"training.epochs": EPOCHS, "training.seed": 5}},
        "search": {"sampler": sampler, "ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}},
        "trials": trials,
        "baselines": [],
        "early_stopping": {"rule": rule, "grace_epochs": 1, "reduction": 2},
        "workers": {"count": 1, "cpus": 1, "concurrent_trials": 1},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


class Prefilled:
    """Records trials as a session on Tune would, and the milliseconds of ledger, rule and board for each."""

    def __init__(self, path: Path, corpus: Corpus) -> None:
        study = read_study(path)
        base = with_values(make_base_recipe(study), {"data.fingerprint": corpus.fingerprint})
        self.ledger = Ledger.create_or_open(study_folder(study), study, base, make_manifest())
        self.ledger.start_session()
        proposer = Proposer(study, base)

        def restore(record: TrialRecord) -> Proposal:
            return proposer.restore(record, self.ledger.read_recipe(record))

        self.rule = build_rule(study.early_stopping, "dev/wer", self.ledger.trials)
        agenda = Agenda(self.ledger.trials, proposer, restore, self.rule, study.failures)
        self.board = Board(Console(file=io.StringIO(), force_terminal=True, height=50), "many", {}, study.trials)
        self.session = Session(self.ledger, agenda, self.rule, [self.board])
        self.milliseconds: list[float] = []

    def run(self, trials: int) -> None:
        """Until the ledger has so many trials, and none runs."""
        while len(self.ledger.trials) < trials:
            trial = self.session.next()
            assert trial is not None
            began = time.perf_counter()
            self._train(trial.number)
            self.board.render()
            self.milliseconds.append(1000 * (time.perf_counter() - began))

    def _train(self, number: int) -> None:
        record = self.ledger.trials[number]
        for epoch in range(record.epoch + 1, EPOCHS + 1):
            value, last = 100 * record.values["ctc_weight"] / epoch, epoch == EPOCHS
            self.session.record_epoch(number, Report({"epoch": epoch, "dev/wer": value, "last_epoch": float(last)}))
            write_atomically(self.ledger.trial_folder(number) / "done", str(epoch))  # where the stub would go on
            ruling = self.rule.decide(number, epoch, {"dev/wer": value}, baseline=False, last=last)
            if ruling is Ruling.PAUSE:
                return self.session.pause(number, epoch, "waits")
            if ruling is Ruling.PRUNE:
                return self.session.prune(number, "behind")
        return self.session.complete(number, {"dev/wer": value})


def seconds_to_next_start(ledger: Ledger, since: int) -> list[float]:
    """From each end or pause of the trials on Ray to the start that followed it."""
    gaps = []
    for before, after in itertools.pairwise(ledger.log.read()[since:]):
        if isinstance(before, TrialEnded | TrialPaused) and isinstance(after, TrialStarted):
            gaps.append(after.time - before.time)
    return gaps


@pytest.mark.speed
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rule", ["asha", "asha-promote", "median", "evidence"])
def test_many_trials(
    rule: str, stub: Work, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, add_row: Callable[..., None]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUB_SECONDS", "0")
    prefilled = Prefilled(write_study(tmp_path, corpus, rule, TRIALS, "random"), corpus)
    prefilled.run(TRIALS - ON_RAY)
    events = len(prefilled.ledger.log.read())
    path = write_study(tmp_path, corpus, rule, TRIALS, "tpe")
    run: dict[str, Any] = {"console": Console(file=io.StringIO()), "work": stub}
    assert run_study(path, **run) == 0
    gaps = seconds_to_next_start(Ledger.open(Path("studies/many")), events)
    assert len(gaps) >= ON_RAY / 2
    early, late = (statistics.median(part) for part in (prefilled.milliseconds[50:150], prefilled.milliseconds[-100:]))
    seconds = statistics.median(gaps)
    add_row(TITLE, HEADER, (rule, f"{early:.1f}", f"{late:.1f}", f"{seconds:.2f}", f"{max(gaps):.2f}"))
    assert late < MOST_MILLISECONDS
    assert seconds < MOST_SECONDS
