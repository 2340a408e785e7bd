from __future__ import annotations

import io

from rich.console import Console

from model.recipe.files import named_recipe, with_values
from study.display.board import Board, duration
from study.ledger.records import TrialState
from study.search.proposer import Proposal

RECIPE = with_values(named_recipe("tiny", "corpus"), {"training.epochs": 4})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def board(terminal: bool = False, trials: int = 4) -> tuple[Board, Console, Clock]:
    console, clock = Console(file=io.StringIO(), width=120, force_terminal=terminal), Clock()
    return Board(console, "probe", trials, clock=clock), console, clock


def proposal(number: int) -> Proposal:
    return Proposal(number, RECIPE, {"ctc_weight": 0.25, "auxiliary.placement": "1,3"})


def said(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_without_a_terminal_every_event_is_one_plain_line() -> None:
    shown, console, clock = board()
    shown.started(proposal(0))
    clock.now = 10.0
    shown.epoch(0, 1, {"dev/wer": 61.25, "dev/ilm_perplexity": 12.0})
    shown.ended(0, TrialState.FAILED, "NonFiniteLossError: loss is nan [at] step 7", {})
    assert said(console) == [
        "trial 0000 started: ctc_weight 0.25, auxiliary.placement 1,3",
        "trial 0000 epoch 1/4: WER 61.25, ILM ppl 12.00",
        "trial 0000 failed: NonFiniteLossError: loss is nan [at] step 7; 30 s left",
    ]


def test_the_time_left_follows_the_trials_so_far() -> None:
    shown, _, clock = board(trials=4)
    shown.started(proposal(0))
    assert shown.seconds_left() is None
    clock.now = 10.0
    shown.epoch(0, 1, {})
    assert shown.seconds_left() == 4 * 40.0 - 10.0
    clock.now = 40.0
    shown.ended(0, TrialState.COMPLETE, None, {})
    assert shown.seconds_left() == 3 * 40.0


def test_the_table_has_a_line_a_trial_with_its_figures_and_values() -> None:
    shown, console, _ = board(terminal=True)
    shown.started(proposal(7))
    shown.epoch(7, 2, {"dev/wer": 61.25, "dev/ilm_perplexity": 12.0})
    console.print(shown.table())
    text = "\n".join(said(console))
    for word in ("0007", "running", "2/4", "61.25", "12.00", "0.25", "1, 3", "1 running"):
        assert word in text


def test_on_a_small_screen_the_newest_trials_are_seen() -> None:
    shown, console, _ = board(terminal=True)
    console.height = 20
    for number in range(50):
        shown.started(proposal(number))
        shown.ended(number, TrialState.COMPLETE, None, {})
    console.print(shown.table())
    text = "\n".join(said(console))
    assert "0049" in text
    assert "0001" not in text
    assert len(said(console)) <= 20


def test_durations_are_short() -> None:
    assert [duration(seconds) for seconds in (40, 720, 3900)] == ["40 s", "12 min", "1:05 h"]
