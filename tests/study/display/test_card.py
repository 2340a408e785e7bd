"""The card and the comment lines of what is exported."""

from __future__ import annotations

import numpy as np
from simulated_studies import SimulatedStudy

from study.display.card import make_card, make_header
from study.ledger.events import TrialEnded, TrialStarted, TrialState
from study.ledger.trials import Trials
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict


def test_the_card_has_the_trials_figures_and_the_studys_verdict() -> None:
    trials = SimulatedStudy(random=np.random.default_rng(3)).run()
    verdict = make_verdict(trials)
    assert verdict is not None
    card = make_card(trials, "probe", 0)
    assert card.startswith("# Trial 0000 of study probe\n")
    assert f"| dev/wer_final | {trials[0].final_metrics['dev/wer_final']:.2f} |" in card
    for line in describe_verdict(verdict):
        assert f"\n{line}\n" in card
    header = make_header(trials, "probe", 0)
    assert header.splitlines() == ["# trial 0000 of study probe", *(f"# {line}" for line in describe_verdict(verdict))]


def test_without_a_verdict_the_card_says_nothing_of_one() -> None:
    trials = Trials([TrialStarted(number=0, baseline="ed"), TrialEnded(number=0, state=TrialState.COMPLETE)])
    assert "verdict" not in make_card(trials, "probe", 0)
