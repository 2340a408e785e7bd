"""Whether early values rank trials as final ones do: the rank correlation between each rung and the last epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord, TrialState

MIN_TRIALS = 3  # of two, the correlation is 1 or -1 whatever they are


def describe_rungs(records: Iterable[TrialRecord], study: StudyFile) -> list[str]:
    """A line for each rung below the last epoch that at least three complete trials have passed."""
    records, metric = list(records), study.objective.metric
    curves = [_read_curve(record, metric) for record in records if record.state is TrialState.COMPLETE]
    curves = [curve for curve in curves if curve]
    stopped = any(record.state in (TrialState.PRUNED, TrialState.WAITING) for record in records)
    lines = []
    for rung in _list_rungs(study, max((max(curve) for curve in curves), default=0)):
        passed = [curve for curve in curves if rung in curve and max(curve) > rung]
        rho = spearman([curve[rung] for curve in passed], [curve[max(curve)] for curve in passed])
        if rho is not None:
            last = {max(curve) for curve in passed}
            end = f"epoch {last.pop()}" if len(last) == 1 else "the last epoch"
            trials = f"{len(passed)} trials" + (" that were not stopped" if stopped else "")
            lines.append(f"{metric} at epoch {rung} ranks {trials} as {end} does with rho {rho:.2f}")
    return lines


def spearman(early: Sequence[float], late: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None for fewer than three, or all equal."""
    if len(early) < MIN_TRIALS or len(set(early)) == 1 or len(set(late)) == 1:
        return None
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(early, late).statistic)


def _read_curve(record: TrialRecord, metric: str) -> dict[int, float]:
    """epoch -> finite value of the metric; empty where the last epoch has none."""
    values = {report.epoch: report.metrics.get(metric, math.nan) for report in record.epochs}
    if not values or not math.isfinite(values[max(values)]):
        return {}
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def _list_rungs(study: StudyFile, last: int) -> list[int]:
    """The rungs of `asha` below the last epoch, whatever the study's rule is."""
    rungs, rung = [], study.early_stopping.grace_epochs
    while rung < last:
        rungs.append(rung)
        rung *= study.early_stopping.reduction
    return rungs
