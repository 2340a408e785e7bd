"""The trials of a report: what each tried, scored and took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from study.config.study_file import Objective
from study.ledger.best import Ranking, rank_figures
from study.ledger.records import TrialRecord, TrialState
from study.report.labels import COLUMNS, round_figure
from study.report.parts import Trial

HOUR = 3600.0
KINDS = ("training", "validation", "decoding", "waiting", "lost", "other")
OF_CURVES = ("dev/ilm_perplexity", "dev/ctc_wer", "dev/in_domain/wer", "dev/out_of_domain/wer", "train/loss")
KEPT = ("/wer", "/wer_final", "/ilm_perplexity", "/ctc_wer", "/macro_wer", "/macro_wer_final")


def make_trials(records: Sequence[TrialRecord], objective: Objective, ranking: Ranking, began: float) -> list[Trial]:
    """All trials in the order of their numbers. Confirmations are ranked among themselves, by the same metric."""
    confirming = rank_figures([record for record in records if record.confirms is not None], objective)
    figures = ranking.figures | (confirming.figures if confirming.metric == ranking.metric else {})
    return [_make_trial(record, objective.metric, figures.get(record.number), began) for record in records]


def _make_trial(record: TrialRecord, metric: str, figure: float | None, began: float) -> Trial:
    last = record.curve(metric)
    at = tuple(report.epoch for report in record.epochs)
    curves = {
        name: tuple(round_figure(report.metrics.get(name, math.nan)) for report in record.epochs)
        for name in dict.fromkeys((metric, *OF_CURVES))
        if any(name in report.metrics for report in record.epochs)
    }
    return Trial(
        number=record.number,
        state=record.state.value,
        recipe_class=record.recipe_class,
        name=name_trial(record),
        is_search=record.confirms is None,
        figure=figure,
        last=last[max(last)] if last and math.isfinite(last[max(last)]) else None,
        values=record.values,
        metrics={
            name: value
            for name, value in record.metrics.items()
            if name.endswith(KEPT) and not name.startswith("train/") and math.isfinite(value)
        },
        epochs=record.epoch,
        planned=record.planned_epochs,
        started=None if record.started is None else (record.started - began) / HOUR,
        ended=None if record.ended is None else (record.ended - began) / HOUR,
        retries=record.retries,
        reason="; ".join(filter(None, (record.reason, *record.notes))) or None,
        source=record.source,
        spent=measure_hours(record),
        curves=curves,
        at=at,
    )


def name_trial(record: TrialRecord) -> str:
    """Its baseline, or the finalist that it confirms; empty for any other."""
    if record.baseline:
        return record.baseline
    return "" if record.confirms is None else f"confirms {record.confirms:04d}"


def measure_hours(record: TrialRecord) -> dict[str, float]:
    """The hours of a trial by what they were spent on; `other` is what no part of it was measured as, such as starting
    workers, or having been interrupted between two sessions. Trials that came from another study spent none here."""
    if record.source is not None or record.started is None:
        return dict.fromkeys(KINDS, 0.0)
    reports = [report.seconds for report in record.epochs]
    seconds = {
        "training": math.fsum(report.training or 0.0 for report in reports),
        "validation": math.fsum(report.validation or 0.0 for report in reports),
        "decoding": math.fsum(report.decoding or 0.0 for report in reports),
        "waiting": math.fsum(report.waiting or 0.0 for report in reports),
        "lost": record.lost_seconds,
    }
    seconds["decoding"] += _finite(record.final_metrics, "decoding/seconds")
    last = max((report.time for report in record.epochs), default=record.started)
    whole = (record.ended or last) - record.started
    seconds["other"] = max(0.0, whole - math.fsum(seconds.values()))
    return {kind: seconds[kind] / HOUR for kind in KINDS}


def _finite(metrics: Mapping[str, float], name: str) -> float:
    value = metrics.get(name, 0.0)
    return value if math.isfinite(value) else 0.0


def choose_columns(trials: Sequence[Trial]) -> tuple[str, ...]:
    """The metrics of the table of trials that any trial has."""
    return tuple(name for name in COLUMNS if any(name in trial.metrics for trial in trials))


def count_states(records: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials each state has, the states in their usual order."""
    order = [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.RUNNING,
        TrialState.WAITING,
        TrialState.INTERRUPTED,
        TrialState.FAILED,
        TrialState.INFEASIBLE,
    ]
    counts = {state.value: sum(record.state is state for record in records) for state in order}
    return {name: count for name, count in counts.items() if count}
