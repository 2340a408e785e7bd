"""kill -9 of the study's own process, at any moment."""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.epoch_order import assert_trained_once, read_events
from chaos.records import assert_records_agree
from chaos.study_process import StudyProcess, start_study, wait_until
from rich.console import Console

from study.ledger.event_log import EventLog
from study.ledger.events import AnyEvent, TrialEnded, TrialEpoch, TrialPaused
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

# Kills by rule. A study under asha-promote is over sooner: most of its trials train for one epoch.
KILLS = {"asha": 20, "asha-promote": 12}
TRIALS = 30
# Seconds. Most are gone in two or three; what Ray had just started, and its agents, ask a dead head for a minute first.
ORPHANS_WITHIN = 150.0
STUDY = Path("studies/probe")
ENDED = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED}


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rule", KILLS)
def test_kills_at_random_moments_lose_nothing_and_train_nothing_twice(
    rule: str, ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(
        search={"ctc_weight": {"uniform": [0.1, 0.6]}, "recipe": {"training.seed": {"choice": [0, 4, 5]}}},
        trials=TRIALS,
        early_stopping={"rule": rule, "grace_epochs": 1, "reduction": 2},
    )
    chance, before = random.Random(7), {}
    with contextlib.ExitStack() as stack:
        runs = []
        for kill in range(KILLS[rule]):
            runs.append(stack.enter_context(start_study()))
            _wait_for_random_moment(runs[-1], kill, chance)
            assert runs[-1].process.poll() is None, f"it ended before kill {kill}:\n{runs[-1].output}"
            runs[-1].kill()
            assert "Traceback" not in runs[-1].output
            before = _assert_nothing_lost(before)
            assert_trained_once(EventLog(STUDY).read())
        advanced = {event.number for event in read_events(STUDY, TrialPaused) + _final_ends()}
        print(f"{len(advanced)} trials ended or paused between {KILLS[rule]} kills")
        assert len(advanced) > KILLS[rule] / 4, "the study made no progress"
        _wait_for_orphans(runs)

    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    _assert_nothing_lost(before)
    ledger = Ledger.open(STUDY)
    events, trials = ledger.log.read(), ledger.trials
    assert_trained_once(events)
    _print_repeats(events)
    assert list(trials) == list(range(len(trials))), "a number was left out"
    assert len(trials) == TRIALS + 1, "the budget was not kept"
    assert {trial.state for trial in trials.values()} <= ENDED
    assert all([e.epoch for e in trial.epochs] == [*range(1, trial.epoch + 1)] for trial in trials.values())
    assert_records_agree(STUDY)


def _wait_for_random_moment(run: StudyProcess, kill: int, chance: random.Random) -> None:
    """Of four kills one comes while the study starts, one while the first trials do, and two when some epochs ran."""
    if kill % 4 == 0:
        time.sleep(chance.uniform(0, 12))
    elif kill % 4 == 1:
        run.wait_for_output("trial 0")
        time.sleep(chance.uniform(0, 3))
    else:
        epochs = chance.randint(1, 5)
        wait_until(lambda: run.output.count(" epoch ") >= epochs, run, f"it never trained {epochs} epochs")
        time.sleep(chance.uniform(0, 0.6))


def _wait_for_orphans(runs: list[StudyProcess]) -> None:
    """No process ends them: the studies were killed and could not, and the next ones have a Ray of their own."""
    deadline = time.monotonic() + ORPHANS_WITHIN
    while left := [line for run in runs for line in run.list_commands()]:
        assert time.monotonic() < deadline, left
        time.sleep(1)


def _assert_nothing_lost(before: dict[str, bytes]) -> dict[str, bytes]:
    """Every event file begins with what it held before. The whole lines of each file now, by its name."""
    contents = {path.name: path.read_bytes() for path in EventLog(STUDY).files()}
    whole = {name: content[: content.rfind(b"\n") + 1] for name, content in contents.items()}
    assert all(whole[name].startswith(lines) for name, lines in before.items())
    return whole


def _final_ends() -> list[TrialEnded]:
    return [event for event in read_events(STUDY, TrialEnded) if event.state.final]


def _print_repeats(events: list[AnyEvent]) -> None:
    reported = [(event.number, event.epoch) for event in events if isinstance(event, TrialEpoch)]
    print(f"{len(reported) - len(set(reported))} of {len(reported)} epochs were reported again after a kill")
