"""What did not help, in sentences: a study's negative results are results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from study.config.study_file import StudyFile
from study.evidence.stuck import describe_stuck
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.report.labels import FIGURES, count_trials, format_figure, format_interval, format_value, label_quantity
from study.report.parts import (
    Association,
    DecodingSurface,
    ImportancePart,
    PlacementPart,
    Quantity,
    Rung,
    Standing,
    Table,
    Trial,
    VerdictPart,
)
from study.report.value import Report
from study.verdict.seed_effects import FEWEST_SEEDS

CLOSE = 0.005  # points of WER: two figures that are shown as the same
FEWEST = 10  # trials: of fewer nothing is said of a quantity
FEWEST_OF_PLACEMENT = 3


def list_not_helped(
    report: Report, trials: Trials, figures: Mapping[int, float], best: TrialRecord | None, study: StudyFile
) -> list[str]:
    """Everything that a study shows not to help, or does not show to; `figures` are those of the searched trials."""
    return [
        *describe_classes(report.verdict),
        *describe_luck(report.verdict),
        *describe_baselines(report.standings),
        *describe_quantities(report.associations, report.quantities, report.importance),
        *describe_placements(report.placements),
        *describe_decodings(report.decodings),
        *describe_stopping(study.early_stopping.rule, report.progress.rungs, report.hours.stopped, report.state),
        *describe_prior(trials, figures, best),
        *describe_stuck(trials.values()),
    ]


def describe_classes(verdict: VerdictPart) -> list[str]:
    """Effects of the verdict that are not shown, or that are shown against the first class."""
    if len(verdict.seeds) < FEWEST_SEEDS:
        return []
    lines = []
    first, second = verdict.classes
    for effect in verdict.effects:
        size = f"{effect.difference:+.2f} {format_interval(effect.low, effect.high)}"
        where = f"{first} against {second}, {FIGURES[effect.figure]} on {effect.name}"
        if not effect.is_shown:
            lines.append(f"{where}: no difference shown, {size}")
        elif effect.difference > 0:
            lines.append(f"{where}: shown to be higher, {size}")
    return lines


def describe_luck(verdict: VerdictPart) -> list[str]:
    """Finalists that were better when they were chosen than with new seeds."""
    return [
        f"the finalist of {one.recipe_class} (trial {one.number:04d}) was partly lucky: {one.selected:.2f} when it was "
        f"chosen among {one.of}, {one.replicated:.2f} as a mean with new seeds"
        for one in verdict.luck
        if one.replicated > one.selected + CLOSE
    ]


def describe_baselines(standings: Sequence[Standing]) -> list[str]:
    """Baselines that the search did not beat."""
    best = next((one for one in standings if one.role.startswith("best trial")), None)
    if best is None or "baseline" not in best.role:
        return []
    return [f"no searched point was better than {best.role.split(', ')[1]} (trial {best.number:04d})"]


def describe_quantities(
    associations: Sequence[Association], quantities: Sequence[Quantity], importance: ImportancePart
) -> list[str]:
    """Quantities that neither rank the figures nor separate the best."""
    labels = {quantity.name: quantity.label for quantity in quantities}
    if associations and all(one.trials < FEWEST for one in associations):
        most = max(one.trials for one in associations)
        return [
            f"of single quantities nothing can be said: {count_trials(most)} complete, {FEWEST} at least are needed"
        ]
    lines = [
        f"{labels[one.quantity]}: no monotone effect shown, rank correlation with the figure {one.rho:+.2f} "
        f"{format_interval(one.low, one.high)} over {count_trials(one.trials)}"
        for one in associations
        if one.trials >= FEWEST and one.low is not None and one.high is not None and one.low <= 0 <= one.high
    ]
    quiet = [label_quantity(row.quantity) for row in importance.rows if not row.has_signal]
    if quiet and len(quiet) < len(importance.rows):
        lines.append(f"no importance above chance: {', '.join(quiet)}")
    elif quiet:
        lines.append("no searched quantity has an importance above chance")
    return lines


def describe_placements(placements: PlacementPart) -> list[str]:
    """Placements whose mean is above that of no classifier, each of three trials or more."""
    none = next((cell for cell in placements.totals if cell.placement == "none"), None)
    if none is None or none.count < FEWEST_OF_PLACEMENT:
        return []
    lines = []
    for cell in placements.totals:
        is_known = cell.placement != "none" and cell.count >= FEWEST_OF_PLACEMENT
        if is_known and cell.mean > none.mean + CLOSE:
            lines.append(
                f"a classifier on layer {format_value(cell.placement)}: mean {cell.mean:.2f} "
                f"{format_interval(cell.low, cell.high)} over {count_trials(cell.count)}, without any {none.mean:.2f} "
                f"{format_interval(none.low, none.high)} over {count_trials(none.count)}"
            )
    return lines


def describe_decodings(surfaces: Sequence[DecodingSurface]) -> list[str]:
    """Stages of the search for a decoding that found nothing better."""
    lines = []
    for surface in surfaces:
        idle = [
            stage
            for (_, before), (stage, after) in zip(surface.stages, surface.stages[1:], strict=False)
            if after > before - CLOSE and stage in {one.stage for one in surface.tried}
        ]
        if idle:
            lines.append(f"decoding of trial {surface.number:04d}: nothing better found by {', '.join(idle)}")
    return lines


def describe_stopping(rule: str, rungs: Sequence[Rung], stopped: int, state: str) -> list[str]:
    """Early stopping that stopped nobody, and why."""
    if rule == "none" or stopped or state != TrialState.COMPLETE:
        return []
    best = max((rung for rung in rungs if rung.kind == "best"), key=lambda rung: rung.rho, default=None)
    if rule == "evidence" and best is not None and best.low is not None and best.low <= 0:
        return [
            "early stopping stopped no trial: no epoch is shown to rank trials as their ends do; the best, "
            f"{best.metric} at epoch {best.epoch}, has rho {best.rho:.2f} {format_interval(best.low, best.high)}"
        ]
    return [f"early stopping ({rule}) stopped no trial"]


def describe_prior(trials: Trials, figures: Mapping[int, float], best: TrialRecord | None) -> list[str]:
    """Proposals of an earlier study that were not the best ones."""
    prior = trials.prior
    if prior is None or best is None:
        return []
    points = [found.point for found in prior.found]
    proposed = [record for record in trials.values() if record.point in points and record.number in figures]
    if not proposed or any(record.number == best.number for record in proposed):
        return []
    first = min(proposed, key=lambda record: figures[record.number])
    return [
        f"what study {prior.study} found was not best here: trial {first.number:04d} {figures[first.number]:.2f}, the "
        f"best {format_figure(figures.get(best.number))}"
    ]


def make_failures(trials: Sequence[Trial]) -> Table:
    """Every trial that failed or could not be trained, with its reason."""
    rows = tuple(
        (f"{trial.number:04d}", trial.state, str(trial.epochs), trial.reason or "no reason recorded")
        for trial in trials
        if trial.state in (TrialState.FAILED, TrialState.INFEASIBLE)
    )
    return Table("Failed and infeasible trials", ("trial", "state", "epochs", "reason"), rows)
