"""`evidence` stops where a ranking is shown, and nobody elsewhere; and decides the same after a crash at any step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from study.config.run_settings import EarlyStoppingSettings
from study.early_stopping.evidence import Evidence
from study.early_stopping.rule import Rule, Ruling
from study.early_stopping.rules import build_rule
from study.evidence.rungs import CHECK_EVERY
from study.ledger.events import EpochReport
from study.ledger.records import TrialRecord, TrialState

LAST, FIRST = 4, 8
SETTINGS = EarlyStoppingSettings.model_validate({"rule": "evidence", "complete_first": FIRST})
Curve = Callable[[int], list[dict[str, float]]]  # number -> metrics of each epoch


@dataclass
class SequentialStudy:
    """One trial after the other; where `rebuilds`, the rule is rebuilt from the records before every report."""

    curve: Curve
    baselines: int = 0
    rebuilds: bool = False
    rule: Rule = field(default_factory=lambda: build_rule(SETTINGS, "dev/wer", {}))
    records: dict[int, TrialRecord] = field(default_factory=dict)

    def run(self, trials: int) -> SequentialStudy:
        for number in range(trials):
            self.train(number)
        return self

    def train(self, number: int) -> None:
        baseline = "ed" if number < self.baselines else None
        epochs: tuple[EpochReport, ...] = ()
        for epoch, metrics in enumerate(self.curve(number), 1):
            if self.rebuilds:
                self.rule = build_rule(SETTINGS, "dev/wer", self.records)
            ruling = self.rule.decide(number, epoch, metrics, baseline=baseline is not None, last=epoch == LAST)
            epochs = (*epochs, EpochReport(epoch=epoch, metrics=metrics))
            state = TrialState.COMPLETE if epoch == LAST else TrialState.RUNNING
            state = TrialState.PRUNED if ruling is Ruling.PRUNE else state
            self.records[number] = TrialRecord(
                number, state, self.rule.explain(number), baseline, epochs=epochs, planned_epochs=LAST
            )
            if ruling is Ruling.PRUNE:
                return

    @property
    def pruned(self) -> dict[int, int]:
        """number -> epoch."""
        return {n: record.epoch for n, record in self.records.items() if record.state is TrialState.PRUNED}


def make_curve(seed: int = 0, noise: float = 0.0, early: str = "dev/wer") -> Curve:
    """The metric `early` at every epoch is the end with noise; the other one is noise alone until the end."""
    rng = np.random.default_rng(seed)
    ends, noises, chance = rng.permutation(200), rng.normal(size=(200, LAST)), rng.normal(size=(200, LAST))

    def curve(number: int) -> list[dict[str, float]]:
        rows = []
        for epoch in range(LAST):
            end, last = float(ends[number]), epoch == LAST - 1
            metrics = {"dev/wer": float(chance[number, epoch]), "dev/cer": float(chance[number, -1 - epoch])}
            metrics[early] = end + 0.0 if last else end + noise * float(noises[number, epoch])
            metrics["dev/wer"] = end if last else metrics["dev/wer"]
            rows.append(metrics)
        return rows

    return curve


def test_the_first_trials_the_baselines_and_the_checks_run_to_their_end() -> None:
    study = SequentialStudy(make_curve(), baselines=2).run(60)
    assert len(study.pruned) > 20
    assert min(study.pruned) >= FIRST
    assert not any(number % CHECK_EVERY == CHECK_EVERY - 1 for number in study.pruned)


def test_it_stops_by_the_metric_that_ranks_best_and_says_how_well() -> None:
    study = SequentialStudy(make_curve(early="dev/cer")).run(40)
    assert study.pruned
    number = max(study.pruned)
    reason = study.records[number].reason or ""
    assert "trials have a lower dev/cer, at most" in reason
    assert f"dev/cer at epoch {study.pruned[number]} ranks" in reason
    assert "with rho 1.00 [" in reason


def test_a_trial_that_goes_on_has_the_evidence_at_its_rung_and_none_at_other_epochs() -> None:
    study = SequentialStudy(make_curve()).run(40)
    rung = study.rule.find_rung()
    number = min(range(40, 200), key=lambda n: make_curve()(n)[0]["dev/wer"])  # better than all before it
    reasons = {}
    for epoch, metrics in enumerate(make_curve()(number), 1):
        assert study.rule.decide(number, epoch, metrics, baseline=False, last=epoch == LAST) is Ruling.CONTINUE
        reasons[epoch] = study.rule.explain(number)
    assert [epoch for epoch, reason in reasons.items() if reason] == [rung.epoch]
    assert str(rung) in reasons[rung.epoch]


def test_it_stops_nobody_where_early_figures_are_noise() -> None:
    """But for some studies in a hundred, though it looks again after every trial."""
    stopping = [seed for seed in range(20) if SequentialStudy(make_curve(seed, noise=1e9)).run(40).pruned]
    assert len(stopping) <= 2


def test_it_stops_nobody_in_a_study_of_eight_trials() -> None:
    assert SequentialStudy(make_curve()).run(8).pruned == {}


def test_the_best_of_all_survives_where_the_ranking_is_exact() -> None:
    for seed in range(10):
        study = SequentialStudy(make_curve(seed)).run(60)
        ends = {number: record.epochs[-1].metrics["dev/wer"] for number, record in study.records.items()}
        assert min(ends, key=lambda number: ends[number]) not in study.pruned


def test_fewer_continue_where_the_ranking_is_better() -> None:
    exact, noisy = (len(SequentialStudy(make_curve(1, noise)).run(80).pruned) for noise in (0.0, 40.0))
    assert 0 < noisy < exact


def test_a_rung_that_is_no_good_any_more_stops_nobody_any_more() -> None:
    """After trial 20 early figures say nothing; the checks notice."""
    good, bad = make_curve(), make_curve(noise=1e9)
    study = SequentialStudy(lambda number: (good if number < 20 else bad)(number)).run(150)
    late = sum(number >= 120 for number in study.pruned)
    assert study.pruned
    assert late < sum(20 <= number < 50 for number in study.pruned)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.0, 5.0, 40.0]), baselines=st.integers(0, 2))
def test_a_rule_that_is_rebuilt_before_every_report_decides_as_the_original_one(
    seed: int, noise: float, baselines: int
) -> None:
    curve = make_curve(seed, noise)
    original = SequentialStudy(curve, baselines).run(30)
    rebuilt = SequentialStudy(curve, baselines, rebuilds=True).run(30)
    assert rebuilt.records == original.records


def test_a_trial_that_failed_is_no_evidence() -> None:
    study = SequentialStudy(make_curve()).run(FIRST)
    assert isinstance(study.rule, Evidence)
    assert study.rule.find_rung() is not None
    study.rule.remove(0)
    assert study.rule.find_rung() is None, "one trial too few"
    failed = replace(study.records[0], state=TrialState.FAILED)
    again = build_rule(SETTINGS, "dev/wer", study.records | {0: failed})
    assert isinstance(again, Evidence)
    assert again.find_rung() is None


def test_a_trial_that_repeats_its_epochs_after_a_resume_is_decided_anew() -> None:
    study = SequentialStudy(make_curve()).run(40)
    number, epoch = next(iter(study.pruned.items()))
    best = {"dev/wer": -1.0, "dev/cer": -1.0}
    assert study.rule.decide(number, epoch, best, baseline=False, last=False) is Ruling.CONTINUE
