"""What `status` shows of a study, held against the lines of its events, which are read here without fold or cache."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from study.display.status_json import make_status
from study.ledger.events import AnyEvent, ControlGiven, TrialEnded, TrialEpoch, TrialPaused, TrialRetried, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.ledger.trials import Trials


def assert_status_agrees(ledger: Ledger, text: str) -> None:
    """`text` is what `status --json --all` printed. It may come from the kept fold of a long study."""
    shown, events = json.loads(text), ledger.log.read()
    trials = {trial["number"]: trial for trial in shown["trials"]}
    counts = Counter(trial["state"] for trial in trials.values())
    assert {name: count for name, count in shown["study"]["trials"].items() if count} == counts
    ends, epochs = read_ends(events)
    for number, trial in trials.items():
        where, end = f"trial {number} in status", ends.get(number)
        assert trial["epoch"] == epochs[number], f"{where} is at epoch {trial['epoch']}, not {epochs[number]}"
        is_final = TrialState(trial["state"]).final
        assert is_final == (end is not None and end.state.final), f"{where} is {trial['state']}: {end}"
        if end is not None:
            assert trial["state"] == str(end.state), where
            finite = {name: value for name, value in end.metrics.items() if math.isfinite(value)}
            assert finite.items() <= trial["metrics"].items(), where
    assert trials == {trial["number"]: trial for trial in _fold_anew(ledger, events)}


def read_ends(events: Iterable[AnyEvent]) -> tuple[dict[int, TrialEnded], Counter[int]]:
    """The last end, or interruption, of each trial that has not begun again since, and the last epoch of each."""
    ends, epochs = dict[int, TrialEnded](), Counter[int]()
    for event in events:
        match event:
            case TrialEnded():
                ends[event.number] = event
            case TrialEpoch():
                epochs[event.number] = event.epoch
            case TrialStarted() | TrialPaused() | TrialRetried():
                ends.pop(event.number, None)
            case ControlGiven(command="retry", number=int(number)):
                ends.pop(number, None)
    return ends, epochs


def _fold_anew(ledger: Ledger, events: Iterable[AnyEvent]) -> list[dict[str, Any]]:
    trials = Trials()
    for event in events:
        trials.apply(event)
    fresh = Ledger.open(ledger.folder)
    fresh.trials = trials
    return list(json.loads(json.dumps(make_status(fresh)))["trials"])
