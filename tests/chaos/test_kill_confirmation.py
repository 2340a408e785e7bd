"""kill -9 of a study while it confirms its finalists."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
from chaos.epoch_order import assert_trained_once, read_events
from chaos.records import assert_records_agree
from chaos.study_process import start_study, wait_until
from rich.console import Console

from study.ledger.event_log import EventLog
from study.ledger.events import FinalistsChosen, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work, run_study

STUDY = Path("studies/probe")


def count_confirmations() -> int:
    """How many were started."""
    started = read_events(STUDY, TrialStarted) if STUDY.exists() else []
    return len({event.number for event in started if event.confirms is not None})


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_finalists_stay_the_same_and_each_is_trained_once_with_every_seed_whenever_the_study_is_killed(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(
        recipe={"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.VARIES}},
        search={"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 1]}},
        trials=2,
        baselines=["ed", "decred-paper"],
        early_stopping={"rule": "none"},
    )
    for kill in range(1, 4):
        with start_study(seconds=0.5) as run:
            wait_until(lambda at=kill: count_confirmations() >= 2 * at - 1, run, "no finalist was trained")  # type: ignore[misc]
            run.kill()
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    trials = Ledger.open(STUDY).trials
    confirming = [record for record in trials.values() if record.confirms is not None]
    assert all(record.state is TrialState.COMPLETE for record in confirming)
    (chosen,) = read_events(STUDY, FinalistsChosen)
    pairs = Counter((record.confirms, record.values["training.seed"]) for record in confirming)
    finalists = [finalist.number for finalist in chosen.finalists]
    assert pairs == Counter((number, seed) for number in finalists for seed in _seeds(confirming))
    assert len(pairs) == 6
    assert "verdict: decred has a lower WER than ed" in console.file.getvalue()  # type: ignore[attr-defined]
    assert_trained_once(EventLog(STUDY).read())
    assert_records_agree(STUDY)


def _seeds(confirming: list[TrialRecord]) -> set[int]:
    return {int(record.values["training.seed"]) for record in confirming}
