"""How far early figures can be trusted: the rank correlation between each rung and the last epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord, TrialState

FEWEST = 3  # two trials are ranked alike, or they are not


def rung_lines(records: Iterable[TrialRecord], study: StudyFile) -> list[str]:
    """A line for each rung that enough complete trials have passed."""
    records, metric = list(records), study.objective.metric
    curves = [_curve(record, metric) for record in records if record.state is TrialState.COMPLETE]
    curves = [curve for curve in curves if curve]
    stopped = any(record.state in (TrialState.PRUNED, TrialState.WAITING) for record in records)
    lines = []
    for rung in _rungs(study, max((max(curve) for curve in curves), default=0)):
        both = [curve for curve in curves if rung in curve and max(curve) > rung]
        rho = spearman([curve[rung] for curve in both], [curve[max(curve)] for curve in both])
        if rho is not None:
            last = {max(curve) for curve in both}
            end = f"epoch {last.pop()}" if len(last) == 1 else "the last epoch"
            trials = f"{len(both)} trials" + (" that were not stopped" if stopped else "")
            lines.append(f"{metric} at epoch {rung} ranks {trials} as {end} does with rho {rho:.2f}")
    return lines


def spearman(early: Sequence[float], late: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None where there is nothing to rank."""
    if len(early) < FEWEST or len(set(early)) == 1 or len(set(late)) == 1:
        return None
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(early, late).statistic)


def _curve(record: TrialRecord, metric: str) -> dict[int, float]:
    """The metric by epoch; none where the last one is missing or no number."""
    values = {report.epoch: report.metrics.get(metric, math.nan) for report in record.epochs}
    if not values or not math.isfinite(values[max(values)]):
        return {}
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def _rungs(study: StudyFile, last: int) -> list[int]:
    """The rungs below the last epoch; where the rule has none, those it would have."""
    rungs, rung = [], study.early_stopping.grace_epochs
    while rung < last:
        rungs.append(rung)
        rung *= study.early_stopping.reduction
    return rungs
