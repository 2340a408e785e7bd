"""Early stopping: the rule that a study file names, built from what earlier sessions of the study recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.run_settings import EarlyStoppingSettings
from study.config.study_file import StudyFile
from study.early_stopping.asha import Asha
from study.early_stopping.by_class import ByClass, ClassOf
from study.early_stopping.evidence import Evidence
from study.early_stopping.median import Median
from study.early_stopping.promotion import Promotion
from study.early_stopping.rule import ByMetric, Never, OneFigureRule, Rule
from study.ledger.records import TrialRecord, TrialState

_NOT_COMPARED = (TrialState.FAILED, TrialState.INFEASIBLE)


def build_rule(
    settings: EarlyStoppingSettings, objective: str, records: Mapping[int, TrialRecord], classes: Sequence[str] = ()
) -> Rule:
    """The rule of a study, with all trials in its records that others are to be compared with.

    `records` are those of a study that runs: the class of a trial is read there. Where the study compares `classes`,
    trials are compared with those of their class.
    """

    def class_of(number: int) -> str:
        return records[number].recipe_class

    if settings.rule == "none":
        return Never()
    if settings.rule == "evidence":
        return _build_evidence(settings, objective, records, class_of if classes else None)
    metric = settings.metric or objective

    def build(of_class: Mapping[int, TrialRecord]) -> Rule:
        return ByMetric(_build_one_figure_rule(settings, values_by_epoch(of_class, metric), of_class), metric)

    if not classes:
        return build(records)
    parts = {name: {key: one for key, one in records.items() if one.recipe_class == name} for name in classes}
    return ByClass({name: build(part) for name, part in parts.items()}, class_of)


def _build_evidence(
    settings: EarlyStoppingSettings, objective: str, records: Mapping[int, TrialRecord], class_of: ClassOf | None
) -> Evidence:
    compared = {number: record for number, record in sorted(records.items()) if _is_compared(record)}
    return Evidence.rebuild(
        objective,
        settings.complete_first,
        {number: record.reports for number, record in compared.items()},
        ended=[number for number, record in compared.items() if record.has_all_epochs],
        stopped=[number for number, record in compared.items() if record.state is TrialState.PRUNED],
        baselines=[number for number, record in compared.items() if record.baseline],
        class_of=class_of,
    )


def _build_one_figure_rule(
    settings: EarlyStoppingSettings, values: Mapping[int, Mapping[int, float]], records: Mapping[int, TrialRecord]
) -> OneFigureRule:
    if settings.rule == "asha-promote":
        return Promotion.rebuild(
            settings.grace_epochs,
            settings.reduction,
            values,
            waiting=[number for number, record in records.items() if record.state is TrialState.WAITING],
            waited={number: record.paused_at for number, record in records.items() if record.paused_at is not None},
            baselines=[number for number, record in records.items() if record.baseline],
        )
    rule: OneFigureRule = Asha(settings.grace_epochs, settings.reduction)
    if settings.rule == "median":
        rule = Median(settings.grace_epochs)
    for number, epochs in values.items():
        for epoch, value in sorted(epochs.items()):
            rule.decide(number, epoch, value, baseline=True, last=False)
    return rule


def check_grace_epochs(study: StudyFile, base: Recipe) -> None:
    """A UserError where every trial ends before the first rung, so that the rule would never stop one."""
    settings, searched = study.early_stopping, study.search.recipe.get("training.epochs")
    longest = base.training.epochs
    if searched is not None:
        longest = max(longest, *map(int, searched.choice or searched.range))
    if settings.rule not in ("none", "evidence") and settings.grace_epochs > longest:
        lower = f"it below {longest}, or " if longest > 1 else ""
        raise UserError(
            f"early_stopping.grace_epochs is {settings.grace_epochs}, but every trial ends after epoch {longest}, so "
            f"{settings.rule} would stop none; set {lower}early_stopping.rule to none"
        )


def values_by_epoch(records: Mapping[int, TrialRecord], metric: str) -> dict[int, dict[int, float]]:
    """number -> epoch -> value of the metric, of the trials that others are compared with: all that did not fail, but
    for trainings that confirm a finalist."""
    return {number: record.curve(metric) for number, record in sorted(records.items()) if _is_compared(record)}


def _is_compared(record: TrialRecord) -> bool:
    return record.state not in _NOT_COMPARED and record.confirms is None
