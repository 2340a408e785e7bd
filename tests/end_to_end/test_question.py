"""A study with a question: both classes are searched, their best trained again with new seeds, and a verdict given."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stub_training
from rich.console import Console
from typer.testing import CliRunner

from study.cli.main import app
from study.ledger.events import FinalistsChosen, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work, run_study

FOLDER = Path("studies/probe")
STUDY: dict[str, Any] = {
    "recipe": {"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.VARIES}},
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 1]}},
    "trials": 4,
    "baselines": ["ed", "decred-paper"],
}


def run(path: Path, work: Work, **options: Any) -> list[str]:
    """Run the study; what it printed."""
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=work, **options) == 0
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def confirmations(trials: dict[int, TrialRecord]) -> list[TrialRecord]:
    return [record for record in trials.values() if record.confirms is not None]


def test_the_last_lines_of_a_study_are_its_verdict_and_status_prints_it_too(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**STUDY, early_stopping={"rule": "asha-promote", "grace_epochs": 1, "reduction": 2})
    lines = run(path, stub)
    ledger = Ledger.open(FOLDER)
    trials = dict(ledger.trials)
    sampled = [record for record in trials.values() if record.baseline is None and record.confirms is None]
    assert Counter(record.recipe_class for record in sampled) == {"decred": 2, "ed": 2}
    confirming = confirmations(trials)
    assert len(confirming) == 6
    assert all(record.state is TrialState.COMPLETE and len(record.epochs) == 4 for record in confirming)
    assert all("test/test-in/wer" in record.final_metrics for record in confirming)
    searched = [record for record in trials.values() if record.confirms is None and record.baseline is None]
    best = ledger.trials.best
    assert best is not None
    assert all(not record.has_tests for record in searched if record.number != best[0]), "test sets are looked at once"
    assert best[0] in {record.confirms for record in confirming}
    (chosen,) = [event for event in ledger.log.read() if isinstance(event, FinalistsChosen)]
    assert {finalist.recipe_class for finalist in chosen.finalists} == {"decred", "ed"}
    assert lines[-2].startswith("verdict: decred has a lower WER than ed, by ")
    assert "3 seeds each" in lines[-2]
    assert lines[-1].startswith("dev/wer_final when chosen and with new seeds: decred (trial ")
    printed = CliRunner().invoke(app, ["status", str(path)], env={"COLUMNS": "200"}).output
    assert lines[-2] in printed


def test_a_study_that_is_continued_after_its_end_confirms_only_what_is_new(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(**STUDY | {"trials": 2}, early_stopping={"rule": "none"})
    run(path, stub)
    before = Ledger.open(FOLDER)
    run(path, stub)
    assert len(Ledger.open(FOLDER).trials) == len(before.trials), "nothing was left to do"
    run(path, stub, trials=4)
    events = Ledger.open(FOLDER).log.read()
    starts = Counter(event.number for event in events if isinstance(event, TrialStarted))
    assert set(starts.values()) == {1}
    selections = [event for event in events if isinstance(event, FinalistsChosen)]
    assert [selection.looks for selection in selections] == [4, 6]
    pairs = [(record.confirms, record.values["training.seed"]) for record in confirmations(dict(before.trials))]
    assert len(set(pairs)) == len(pairs) == 6
