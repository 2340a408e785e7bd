"""Whole studies on planted surfaces: search, stopping by evidence, confirmation and verdict, without any training."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from ledger_events import start_event

from model.recipe.files import named_recipe
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.early_stopping.rule import Ruling
from study.early_stopping.rules import build_rule
from study.ledger.events import FinalistsChosen, TrialEnded, TrialEpoch, TrialState
from study.ledger.trials import Trials
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.verdict.study_verdict import Verdict, make_verdict
from study.verdict.words import describe_verdict

BASE = named_recipe("small", "/speech")  # six decoder layers
LAYERS = range(1, BASE.decoder.layers)
TRIALS, NOISE, GAP, EPOCHS = 40, 0.3, 0.6, 4
SETS = ("test-in", "test-ood")


@dataclass
class PlantedStudy:
    """A study whose WER is lowest with one classifier on a planted layer; on the next best layer it is `GAP` higher.

    Each training adds noise of 0.3 to its figures, and more to those of early epochs.
    """

    seed: int
    trials: Trials = field(default_factory=Trials)
    recipes: dict[int, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = random.Random(self.seed)
        self.best_layer = generator.choice([layer for layer in LAYERS if layer != BASE.decoder.layers - 2])
        others = [layer for layer in LAYERS if layer != self.best_layer]
        generator.shuffle(others)
        self.loss = {self.best_layer: 0.0} | {layer: GAP * (1 + rank) for rank, layer in enumerate(others)}
        self.ctc_weight, self.final_weight = generator.uniform(0.2, 0.6), generator.uniform(0.4, 0.8)
        self.noise = random.Random(self.seed + 1)

    def measure(self, recipe: Recipe) -> float:
        """The true WER of a recipe."""
        auxiliary = recipe.loss.auxiliary
        wer = 10.0 + 20.0 * (recipe.loss.ctc_weight - self.ctc_weight) ** 2
        if not auxiliary.placement:
            return wer + 2.0
        return wer + self.loss[auxiliary.placement[0]] + 5.0 * (1 - auxiliary.weights[0] - self.final_weight) ** 2

    def run(self) -> Verdict:
        study = StudyFile.model_validate(
            {
                "name": "s",
                "corpus": "/speech",
                "recipe": {"base": "small"},
                "search": {
                    "seed": self.seed,
                    "ctc_weight": {"uniform": [0.1, 0.7]},
                    "auxiliary": {"count": [0, 1], "final_weight": [0.3, 0.9]},
                },
                "trials": TRIALS,
                "baselines": [],
            }
        )
        proposer = Proposer(study, BASE, lambda record: self.recipes[record.number])
        self.rule = build_rule(study.early_stopping, "dev/wer", self.trials, study.classes)
        while isinstance(proposal := proposer.propose(self.trials), Proposal):
            self._train(proposal)
        while (given := proposer.confirm(self.trials)) is not None:
            if isinstance(given, FinalistsChosen):
                self.trials.apply(given)
            else:
                self._train(given)
        verdict = make_verdict(self.trials)
        assert verdict is not None
        return verdict

    def _train(self, proposal: Proposal) -> None:
        number, recipe = proposal.number, proposal.recipe
        self.recipes[number] = recipe
        self.trials.apply(start_event(proposal, EPOCHS))
        true, wer = self.measure(recipe), 0.0
        for epoch in range(1, EPOCHS + 1):
            left = EPOCHS - epoch
            wer = true + 10.0 * left + self.noise.gauss(0.0, NOISE * (1 + left))
            metrics = {"dev/wer": wer}
            self.trials.apply(TrialEpoch(number=number, epoch=epoch, metrics=metrics))
            ruling = Ruling.CONTINUE
            if proposal.confirms is None:
                ruling = self.rule.decide(number, epoch, metrics, baseline=False, last=epoch == EPOCHS)
            if ruling is Ruling.PRUNE:
                self.trials.apply(TrialEnded(number=number, state=TrialState.PRUNED))
                return
        tests = {f"test/{name}/wer": true + self.noise.gauss(0.0, NOISE) for name in SETS}
        self.trials.apply(
            TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": wer, "dev/wer_final": wer} | tests)
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whole_studies_name_the_planted_layer_in_at_least_8_of_10_seeds_and_show_that_it_helps() -> None:
    right, shown = [], []
    for seed in range(10):
        study = PlantedStudy(seed)
        verdict = study.run()
        placement = study.recipes[verdict.first.finalist.number].loss.auxiliary.placement
        right.append(placement == (study.best_layer,))
        shown.append("decred has a lower WER than ed" in describe_verdict(verdict)[0])
    assert sum(right) >= 8, right
    assert sum(shown) >= 8, shown
