"""`evidence`: stops a trial only where early figures are shown to rank trials as their ends do.

The first trials run to their end, and so do baselines and every tenth trial after that, whatever they show: from these
it is estimated which metric at which epoch ranks as the end does (see `study.evidence.rungs`). Where no ranking is
shown to be worth more than chance, nobody is stopped. Otherwise the rung is the epoch, with its best metric, at which a
trial costs least on average: all are trained to the rung, and some of them to the end. Both may change with every trial
that ends. An epoch is what a recipe reports after, so rungs are steps where `training.epoch_steps` is set.

How many continue follows from the lower end of the correlation's interval. Under a bivariate normal distribution with
it, the best of n trials would stand behind the cut in `LOSS` of all cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist

from study.early_stopping.by_class import ClassOf
from study.early_stopping.rule import Ruling
from study.evidence.rungs import FEWEST, Reports, RungEvidence, choose_unselected, find_evidence, runs_to_its_end
from study.ledger.epochs import Figures

LOSS = 0.1  # the chance that the best of all trials is stopped
COMPARED = 100  # trials that one is compared with at the rung, the newest ones
_NORMAL = NormalDist()
_MEDIAN_OF_MAXIMUM = 0.56  # 1 - _MEDIAN_OF_MAXIMUM / n is where the expected maximum of n standard normals lies
_NEVER = 10**9


class Evidence:
    """See the module. A ruling depends on the reports and ends of all trials, not on the order in which they came."""

    def __init__(self, objective: str, complete_first: int, class_of: ClassOf | None = None) -> None:
        """With `class_of` a trial is compared with those of its class; rungs are estimated from all classes."""
        self._objective, self._complete_first, self._class_of = objective, complete_first, class_of
        self._reports: dict[int, dict[int, Mapping[str, float]]] = {}
        self._ended: set[int] = set()
        self._baselines: set[int] = set()
        self._stopped: dict[int, int] = {}  # number -> epoch
        self._sample: list[int] = []
        self._shown: list[RungEvidence] = []
        self._end = 0  # the last epoch of the longest trial in the sample
        self._reasons: dict[int, str] = {}

    @classmethod
    def rebuild(
        cls,
        objective: str,
        complete_first: int,
        reports: Mapping[int, Reports],
        ended: Iterable[int] = (),
        stopped: Iterable[int] = (),
        baselines: Iterable[int] = (),
        class_of: ClassOf | None = None,
    ) -> Evidence:
        """The rule as earlier sessions left it; `reports` are of all trials that did not fail, by number."""
        rule = cls(objective, complete_first, class_of)
        rule._reports = {number: dict(epochs) for number, epochs in reports.items() if epochs}
        rule._ended = set(ended) & rule._reports.keys()
        rule._stopped = {number: max(reports[number]) for number in stopped if reports.get(number)}
        rule._baselines = set(baselines)
        rule._estimate()
        return rule

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        """See `Rule`."""
        self._add(number, epoch, metrics, last)
        self._reasons.pop(number, None)
        if baseline:
            self._baselines.add(number)
        if baseline or last or runs_to_its_end(number, self._complete_first):
            return Ruling.CONTINUE
        rung = self.find_rung()
        if rung is None or rung.epoch != epoch or not math.isfinite(value := metrics.get(rung.metric, math.nan)):
            return Ruling.CONTINUE
        others = self._list_others(number, rung)
        better, most = sum(other < value for other in others), self._count_allowed(rung, len(others))
        self._reasons[number] = (
            f"{better} of {len(others)} trials have a lower {rung.metric}, at most {most} may; {rung}"
        )
        if better <= most:
            return Ruling.CONTINUE
        self._stopped[number] = epoch
        if number < max(self._ended, default=0):  # those after it are a selection from now on
            self._estimate()
        return Ruling.PRUNE

    def find_rung(self) -> RungEvidence | None:
        """The evidence of the rung; None where nobody is stopped."""
        return min(self._shown, key=self._expect_cost, default=None)

    def explain(self, number: int) -> str | None:
        """See `Rule`."""
        return self._reasons.get(number)

    def remove(self, number: int) -> None:
        """See `Rule`."""
        self._reports.pop(number, None)
        self._stopped.pop(number, None)
        if number in self._ended:
            self._ended.discard(number)
            self._estimate()

    def override(self, number: int, ended: bool) -> None:
        """See `Rule`. A trial that a person stopped is as one that the rule stopped: those after it are a selection."""
        reports = self._reports.get(number)
        if ended and reports:
            self._stopped[number] = max(reports)
        else:
            self._stopped.pop(number, None)
        self._estimate()

    def promote_next(self, closed: bool = False) -> int | None:
        """See `Rule`; no trial is paused."""
        return None

    def _add(self, number: int, epoch: int, metrics: Mapping[str, float], last: bool) -> None:
        """A report replaces those of its epoch and later ones."""
        reports = self._reports.setdefault(number, {})
        for late in [at for at in reports if at >= epoch]:
            del reports[late]
        reports[epoch] = Figures(metrics)  # which takes a tenth of the memory
        had_ended, was_stopped = number in self._ended, self._stopped.pop(number, None) is not None
        (self._ended.add if last else self._ended.discard)(number)
        if last or had_ended or (was_stopped and number < max(self._ended, default=0)):
            self._estimate()

    def _estimate(self) -> None:
        """Estimate what is known of the rungs again, since another trial has ended."""
        self._sample = choose_unselected(self._ended, self._stopped, self._baselines, self._complete_first)
        enough = len(self._sample) >= max(self._complete_first, FEWEST)
        trials = [self._reports[number] for number in self._sample]
        found = find_evidence(trials, self._objective) if enough else {}
        self._shown = [evidence for evidence in found.values() if evidence.is_shown]
        self._end = max(map(max, trials), default=0)

    def _list_others(self, number: int, rung: RungEvidence) -> list[float]:
        """The metric of other trials at the rung: of all, or where some were stopped before it, of the unselected."""
        # Below the first stop nobody was selected.
        everyone = rung.epoch <= min(self._stopped.values(), default=_NEVER)
        numbers = sorted(self._reports) if everyone else self._sample
        if self._class_of is not None:
            numbers = [other for other in numbers if self._class_of(other) == self._class_of(number)]
        figures = (
            self._reports[other].get(rung.epoch, {}).get(rung.metric, math.nan)
            for other in numbers[-COMPARED - 1 :]
            if other != number
        )
        return [figure for figure in figures if math.isfinite(figure)]

    def _count_allowed(self, rung: RungEvidence, others: int) -> int:
        """How many may be better at the rung than a trial that continues."""
        return math.floor(self._expect_kept(rung) * (others + 1))

    def _expect_kept(self, evidence: RungEvidence) -> float:
        """The share of trials that continue, so that the best of all is among them but for `LOSS`."""
        # The lower end, because the estimate is the best of many: with that and a LOSS of 0.05, the best trial was
        # stopped in 14 of 40 replays. A bivariate normal distribution with this rank correlation has `correlation`.
        correlation = 2 * math.sin(math.pi * evidence.low / 6)
        best = _NORMAL.inv_cdf(1 - _MEDIAN_OF_MAXIMUM / max(len(self._reports), 2))
        cut = correlation * best + _NORMAL.inv_cdf(LOSS) * math.sqrt(max(0.0, 1 - correlation**2))
        return 1 - _NORMAL.cdf(cut)

    def _expect_cost(self, evidence: RungEvidence) -> float:
        """Of a trial on average, in shares of one that runs to its end."""
        return (evidence.epoch + self._expect_kept(evidence) * (self._end - evidence.epoch)) / self._end
