"""kill -9 of the study's own process, at any moment."""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.driven import Driven, driven, events, until
from chaos.records import assert_records_agree
from rich.console import Console

from study.ledger.ledger import EVENTS, Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

KILLS = 20
TRIALS = 30
# Seconds. Most are gone in two or three; what Ray had just started, and its agents, ask a dead head for a minute first.
ORPHANS_WITHIN = 150.0
STUDY = Path("studies/probe")


@pytest.mark.chaos
@pytest.mark.parametrize("rule", ["asha"])
def test_twenty_kills_at_random_moments_lose_nothing_and_double_nothing(
    rule: str, ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(
        search={"ctc_weight": {"uniform": [0.1, 0.6]}, "recipe": {"training.seed": {"choice": [0, 4, 5]}}},
        trials=TRIALS,
        early_stopping={"rule": rule, "grace_epochs": 1, "reduction": 2},
    )
    chance, before = random.Random(7), b""
    with contextlib.ExitStack() as held:
        runs = []
        for kill in range(KILLS):
            runs.append(held.enter_context(driven()))
            _wait_for_some_moment(runs[-1], kill, chance)
            assert runs[-1].process.poll() is None, f"it ended before kill {kill}:\n{runs[-1].said}"
            runs[-1].kill()
            assert "Traceback" not in runs[-1].said
            before = _nothing_lost(before)
            _nothing_started_after_its_end()
        ended = [event for event in events(STUDY, "trial_ended") if TrialState(event["state"]).final]
        print(f"{len(ended)} trials ended between {KILLS} kills")
        assert len(ended) > KILLS / 4, "the study made no way"
        _all_gone(runs)

    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=stub) == 0
    _nothing_lost(before)
    _nothing_started_after_its_end()
    trials = Ledger.open(STUDY).trials
    assert list(trials) == list(range(len(trials))), "a number was left out"
    assert len(trials) == TRIALS + 1, "the budget was not kept"
    assert {trial.state for trial in trials.values()} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED}
    assert all(_one_curve(trial.epochs) for trial in trials.values())
    assert_records_agree(STUDY)


def _wait_for_some_moment(run: Driven, kill: int, chance: random.Random) -> None:
    """Of four kills one comes while the study starts, one while the first trials do, and two when some epochs ran."""
    if kill % 4 == 0:
        time.sleep(chance.uniform(0, 12))
    elif kill % 4 == 1:
        run.waits_for("trial 0")
        time.sleep(chance.uniform(0, 3))
    else:
        epochs = chance.randint(1, 5)
        until(lambda: run.said.count(" epoch ") >= epochs, run, f"it never trained {epochs} epochs")
        time.sleep(chance.uniform(0, 0.6))


def _all_gone(runs: list[Driven]) -> None:
    """Nobody ends them: the studies were killed and could not, and the next ones have a Ray of their own."""
    deadline = time.monotonic() + ORPHANS_WITHIN
    while left := [line for run in runs for line in run.left()]:
        assert time.monotonic() < deadline, left
        time.sleep(1)


def _nothing_lost(before: bytes) -> bytes:
    """What was on the disk is there still; a line that a crash tore is no part of it. The events now."""
    path = STUDY / EVENTS
    now = path.read_bytes() if path.exists() else b""
    whole = now[: now.rfind(b"\n") + 1]
    assert whole.startswith(before)
    return whole


def _nothing_started_after_its_end() -> None:
    ended: set[int] = set()
    for event in events(STUDY):
        assert event.get("number") not in ended, f"it had ended: {event}"
        if event["kind"] == "trial_ended" and TrialState(event["state"]).final:
            ended.add(event["number"])


def _one_curve(epochs: tuple[dict[str, float], ...]) -> bool:
    return [epoch["epoch"] for epoch in epochs] == list(range(1, len(epochs) + 1))
