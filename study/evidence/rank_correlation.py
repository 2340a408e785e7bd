"""Whether early values rank trials as final ones do: the rank correlation between each rung and the last epoch, and the
metric and epoch that rank best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from study.config.study_file import StudyFile
from study.evidence.rungs import choose_unselected, find_evidence, rank_rows
from study.ledger.records import TrialRecord, TrialState

MIN_TRIALS = 3  # of two, the correlation is 1 or -1 whatever they are
_NORMAL_95 = 1.96
_OF_RANKS = 1.06  # the variance of Fisher's z is larger for ranks (Fieller et al. 1957)


def describe_rungs(records: Iterable[TrialRecord], study: StudyFile) -> list[str]:
    """A line for each rung below the last epoch that three complete trials or more have passed, and one on the best.

    Trainings that confirm a finalist are left out: they are of the best alone.
    """
    records, metric = [record for record in records if record.confirms is None], study.objective.metric
    complete = [record for record in records if record.state is TrialState.COMPLETE]
    curves = [(record.epoch, record.curve(metric)) for record in complete]
    curves = [(last, curve) for last, curve in curves if math.isfinite(curve.get(last, math.nan))]
    stopped = any(record.state in (TrialState.PRUNED, TrialState.WAITING) for record in records)
    lines = []
    for rung in _list_rungs(study, max((last for last, _ in curves), default=0)):
        passed = _gather_passed(curves, rung)
        rho = spearman([figure for figure, *_ in passed], [end for _, end, _ in passed])
        if rho is not None:
            last = {epoch for *_, epoch in passed}
            end = f"epoch {last.pop()}" if len(last) == 1 else "the last epoch"
            trials = f"{len(passed)} trials" + (" that were not stopped" if stopped else "")
            interval = _format_interval(rho, len(passed))
            lines.append(f"{metric} at epoch {rung} ranks {trials} as {end} does with rho {rho:.2f}{interval}")
    return [*lines, *_describe_best(records, study)]


def spearman(early: Sequence[float], late: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None for fewer than three, or all equal."""
    if len(early) < MIN_TRIALS or len(set(early)) == 1 or len(set(late)) == 1:
        return None
    figures = np.array([early, late])
    if np.isnan(figures).any():
        return math.nan
    correlations = np.asarray(np.corrcoef(rank_rows(figures)))  # not by scipy, which takes most of a second to import
    return float(correlations[0, 1])


def _describe_best(records: Sequence[TrialRecord], study: StudyFile) -> list[str]:
    """Which metric at which epoch ranks best of all that are recorded, or that nothing is shown to rank at all."""
    usable = {record.number: record for record in records if record.state is not TrialState.FAILED}
    ended = [number for number, record in usable.items() if record.has_all_epochs]
    stopped = [number for number, record in usable.items() if record.state is TrialState.PRUNED]
    named = [number for number, record in usable.items() if record.baseline]
    settings = study.early_stopping
    sample = choose_unselected(ended, stopped, named, settings.complete_first)
    found = find_evidence([usable[number].reports for number in sample], study.objective.metric)
    if not found:
        return []
    shown = [evidence for evidence in found.values() if evidence.is_shown]
    if shown:
        return [f"shown to rank better than chance: {min(shown, key=lambda evidence: evidence.epoch)}"]
    best = max(found.values(), key=lambda evidence: evidence.rho)
    stops = ", so evidence stops nobody" if settings.rule == "evidence" else ""
    return [f"no metric at any epoch is shown to rank better than chance{stops}; the best: {best}"]


def estimate_interval(rho: float, trials: int) -> tuple[float, float] | tuple[None, None]:
    """The interval of 95 % of one correlation, by Fisher's z; None for fewer than four trials.

    A correlation of 1 has no place in Fisher's z; of n trials it is not known better than to 1 / n^2.
    """
    if trials < MIN_TRIALS + 1:
        return None, None
    half = _NORMAL_95 * math.sqrt(_OF_RANKS / (trials - 3))
    most = 1 - 1 / trials**2
    place = math.atanh(min(max(rho, -most), most))
    return math.tanh(place - half), math.tanh(place + half)


def _format_interval(rho: float, trials: int) -> str:
    low, high = estimate_interval(rho, trials)
    return "" if low is None else f" [{low:.2f}, {high:.2f}]"


def _gather_passed(curves: Sequence[tuple[int, dict[int, float]]], rung: int) -> list[tuple[float, float, int]]:
    """Of each trial that passed the rung with a finite figure: this figure, its last one, and its last epoch."""
    return [
        (curve[rung], curve[last], last)
        for last, curve in curves
        if rung < last and math.isfinite(curve.get(rung, math.nan))
    ]


def _list_rungs(study: StudyFile, last: int) -> list[int]:
    """The rungs of `asha` below the last epoch, whatever the study's rule is."""
    rungs, rung = [], study.early_stopping.grace_epochs
    while rung < last:
        rungs.append(rung)
        rung *= study.early_stopping.reduction
    return rungs
