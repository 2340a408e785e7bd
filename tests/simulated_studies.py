"""Studies without trainings: their events, as a search and its confirmation would have left them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from study.config.study_file import StudyFile
from study.ledger.events import AnyEvent, TrialEnded, TrialEpoch, TrialStarted, TrialState
from study.ledger.trials import Trials
from study.verdict.finalists import choose_finalists, list_new_seeds

SETS = {"test-in": 5.0, "test-ood-text": 30.0, "test-ood-voice": 15.0}  # WER of the second class
WORDS, SPEAKERS = 600, 8  # of a test set


@dataclass
class SimulatedStudy:
    """A study of two classes whose test WERs differ by `effect` seed deviations on each set, the first being better.

    A training's WER varies with its seed, half of the variance being common to all sets; then the errors of each
    speaker are drawn, who is hard or easy for both classes alike. A seed deviation is that of both together.
    """

    trials: int = 8
    seeds: int = 3
    finalists: int = 1
    effect: float = 0.0
    deviation: float = 1.0  # of a seed, in points of WER
    shuffled: bool = False  # whether each training's WER is that of a class drawn by lot, whatever its own is
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def run(self) -> Trials:
        """The study's trials after its end."""
        self.study = StudyFile.model_validate(
            {
                "name": "s",
                "corpus": "/speech",
                "search": {"auxiliary": {"count": [0, 1]}},
                "confirmation": {"finalists": self.finalists, "seeds": self.seeds},
            }
        )
        self._hardness = {name: self.random.gamma(4.0, 0.25, SPEAKERS) for name in SETS}
        self._events: list[AnyEvent] = []
        for number in range(self.trials):
            self._train(number, ("decred", "ed")[number % 2], seed=None, confirms=None)
        selection = choose_finalists(Trials(self._events), self.study)
        assert selection is not None
        self._events.append(selection)
        number = self.trials
        for seed in list_new_seeds(self.study, 0):
            for finalist in selection.finalists:
                self._train(number, finalist.recipe_class, seed, finalist.number)
                number += 1
        return Trials(self._events)

    def _train(self, number: int, name: str, seed: int | None, confirms: int | None) -> None:
        shared = self.random.normal(0.0, self.deviation / np.sqrt(2))
        is_better = bool(self.random.integers(2)) if self.shuffled else name == "decred"
        gain = self.effect * self.deviation if is_better else 0.0
        dev = 20.0 - gain + shared + self.random.normal(0.0, self.deviation / np.sqrt(2))
        metrics = {"dev/wer": dev, "dev/wer_final": dev}
        if confirms is not None:
            for key, wer in SETS.items():
                own = self.random.normal(0.0, self.deviation / np.sqrt(2))
                gain = self.effect * self._measure_deviation(wer) if is_better else 0.0
                metrics |= self._score(key, wer - gain + shared + own)
            metrics["in_domain/wer"] = metrics["test/test-in/wer"]
            metrics["out_of_domain/wer"] = (metrics["test/test-ood-text/wer"] + metrics["test/test-ood-voice/wer"]) / 2
        values = {} if seed is None else {"training.seed": seed}
        self._events += [
            TrialStarted(number=number, recipe_class=name, confirms=confirms, values=values),
            TrialEpoch(number=number, epoch=1, metrics={"dev/wer": dev}),
            TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics),
        ]

    def true_difference(self) -> float:
        """Of the mean of all test sets."""
        return -self.effect * float(np.mean([self._measure_deviation(wer) for wer in SETS.values()]))

    def _measure_deviation(self, wer: float) -> float:
        """Of a test set's WER over seeds."""
        return float(np.hypot(self.deviation, 100 * np.sqrt(wer / 100 * (1 - wer / 100) / WORDS)))

    def _score(self, name: str, wer: float) -> dict[str, float]:
        """WER with the errors of each speaker drawn, and a perplexity that follows the seed alone."""
        rates = np.clip(wer / 100 * self._hardness[name] / self._hardness[name].mean(), 0.0, 1.0)
        errors = self.random.binomial(WORDS // SPEAKERS, rates).sum()
        return {
            f"test/{name}/wer": 100.0 * errors / (WORDS // SPEAKERS * SPEAKERS),
            f"test/{name}/ilm_perplexity": float(5.0 + self.random.normal(0.0, 0.1)),
        }
