"""The first sections of a report: verdict, planes, placements, slices, importance, parallel coordinates."""

from __future__ import annotations

from study.report.blocks import Block, Chart, Control, Grid, Text, remarks
from study.report.labels import (
    FIGURES,
    count_digits,
    count_trials,
    format_figure,
    format_interval,
    format_value,
    format_values,
    label_metric,
    label_quantity,
)
from study.report.parts import Effect, Plane, TestRow
from study.report.value import Report

TOP = (("0", "all trials"), ("10", "best 10"), ("20", "best 20"), ("50", "best 50"), ("100", "best 100"))
MANY = 60  # trials; of more, charts of lines begin with the best


def make_standings_grid(report: Report) -> Grid:
    """The best trial, the baselines and the best of each class."""
    rows = tuple(
        (
            one.role,
            f"{one.number:04d}",
            one.recipe_class or "–",
            format_figure(one.figure) if one.figure is not None else one.state,
            "–" if one.behind is None else f"{one.behind:+.2f}",
            format_values(one.values),
        )
        for one in report.standings
    )
    header = ("who", "trial", "class", report.ranked_label, "against the best", "values")
    return Grid(header, rows, numbers=frozenset({1, 3, 4}), strong=frozenset({0}))


def list_verdict(report: Report) -> list[Block]:
    """What is shown, effect by effect, seed by seed; and all test figures, with published ones."""
    verdict = report.verdict
    blocks: list[Block] = []
    blocks += remarks(verdict.models)
    if verdict.effects:
        blocks.append(_make_effects(report))
        blocks.append(
            Chart(
                "differences",
                f"Difference {verdict.classes[0]} less {verdict.classes[1]} on each set: mean with its interval, "
                "small marks for single seeds. Left of zero the first class is better.",
            )
        )
        blocks.append(
            Chart(
                "seeds",
                "WER of each new training on each test set, a mark a seed, with their mean; lines are published.",
            )
        )
    if verdict.luck:
        blocks.append(_make_luck(report))
    if verdict.lines:  # the first screen has them, or why there are none
        blocks += remarks(verdict.notes)
    return [*blocks, *_list_tests(report)]


def _make_effects(report: Report) -> Grid:
    first, second = report.verdict.classes
    header = ("test set", "figure", first, second, "difference", "interval", "p corrected", "shown")
    rows = tuple(_format_effect(effect) for effect in report.verdict.effects)
    strong = frozenset(row for row, effect in enumerate(report.verdict.effects) if effect.is_shown)
    seeds = len(report.verdict.seeds)
    title = f"{first} against {second}, {seeds} seed{'' if seeds == 1 else 's'} each"
    return Grid(header, rows, title, frozenset(range(2, 7)), strong)


def _format_effect(effect: Effect) -> tuple[str, ...]:
    return (
        effect.name,
        FIGURES[effect.figure],
        format_figure(effect.first),
        format_figure(effect.second),
        f"{effect.difference:+.2f}",
        "–" if effect.low is None else f"{format_interval(effect.low, effect.high)} ({100 * effect.coverage:.0f} %)",
        f"{effect.corrected:.3f}",
        "yes" if effect.is_shown else "no",
    )


def _make_luck(report: Report) -> Grid:
    rows = tuple(
        (
            one.recipe_class,
            f"{one.number:04d}",
            str(one.of),
            format_figure(one.selected),
            format_figure(one.replicated),
            f"{one.difference:+.2f}",
        )
        for one in report.verdict.luck
    )
    header = ("finalist of", "trial", "chosen among", "when chosen", "mean with new seeds", "difference")
    return Grid(header, rows, f"What the finalists were chosen by ({report.ranked_label})", frozenset(range(1, 6)))


def _list_tests(report: Report) -> list[Block]:
    tests = report.tests
    blocks: list[Block] = []
    for figure, label in FIGURES.items():
        rows = [row for row in (*tests.rows, *tests.published) if any(figure in one for one in row.figures.values())]
        if rows:
            header = ("model", "class", *tests.sets)
            cells = tuple(_format_row(row, tests.sets, figure) for row in rows)
            numbers = frozenset(range(2, len(header)))
            blocks.append(Grid(header, cells, f"{label} of single trainings on test sets", numbers, most=40))
    return [*blocks, *remarks(tests.notes)]


def _format_row(row: TestRow, sets: tuple[str, ...], figure: str) -> tuple[str, ...]:
    name = f"published: {row.name}" if row.number is None else f"{row.number:04d} {row.name}".rstrip()
    figures = (format_figure(row.figures.get(one, {}).get(figure)) for one in sets)
    return (name, row.recipe_class or "–", *figures)


def list_objectives(report: Report) -> list[Block]:
    """A study's two objectives, and the trials on their front; nothing for a study of one."""
    blocks: list[Block] = []
    for number, plane in enumerate(report.planes):
        if plane.is_objectives and plane.points:
            caption = (
                "Complete trials within the limits. Lower left is better; the line is the Pareto front: no other trial "
                "is as low in both and lower in one."
            )
            blocks += [Chart("plane", caption, str(number)), _make_front_grid(report, plane, "Pareto front")]
            blocks.append(Text("To export one of these trials: decred-study export STUDY --trial N.", True))
        blocks += remarks(plane.notes) if plane.is_objectives else []
    return blocks


def list_planes(report: Report) -> list[Block]:
    """WER against perplexity, and the trials of each front."""
    if all(plane.is_objectives for plane in report.planes):
        return [Text("nothing to show: no complete trial has both a WER and a perplexity of its internal LM", True)]
    charts: list[Block] = []
    tables: list[Block] = []
    for number, plane in enumerate(report.planes):
        if plane.is_objectives:
            continue
        caption = (
            f"{plane.name.capitalize()}. Lower left is better; the line is the Pareto front: none is better in both."
        )
        charts.append(Chart("plane", caption, str(number), "half"))
        tables.append(_make_front_grid(report, plane, f"Pareto front, {plane.name}"))
        tables += remarks(plane.notes)
    return [*charts, *tables]


def _make_front_grid(report: Report, plane: Plane, title: str) -> Grid:
    names = {trial.number: trial.name for trial in report.trials}
    rows = tuple(
        (
            f"{point.number:04d} {names[point.number]}".rstrip(),
            format_figure(point.y, count_digits(plane.y_metric)),
            format_figure(point.x, count_digits(plane.x_metric)),
        )
        for point in plane.points
        if point.on_front
    )
    header = ("trial", label_metric(plane.y_metric), label_metric(plane.x_metric))
    return Grid(header, rows, title, frozenset({1, 2}))


def list_search(report: Report) -> list[Block]:
    """Placement and weight, and every searched quantity by itself and in pairs."""
    placements = report.placements
    blocks: list[Block] = []
    if placements.totals:
        blocks.append(
            Chart(
                "heat",
                f"Mean {report.ranked_label} by placement of the auxiliary classifiers and weight of the final one, "
                "with the number of trials in brackets.",
                size="tall" if len(placements.placements) > 8 else "",
            )
        )
        rows = tuple(
            (
                format_value(cell.placement),
                str(cell.count),
                format_figure(cell.mean),
                format_interval(cell.low, cell.high),
                format_figure(cell.best),
                f"{cell.best_trial:04d}",
            )
            for cell in placements.totals
        )
        header = ("placement", "trials", "mean", "95 % of the mean", "best", "its trial")
        blocks.append(Grid(header, rows, "Placements", frozenset({1, 2, 4, 5}), most=40))
    blocks += remarks(placements.notes)
    return [*blocks, *_list_slices(report)]


def _list_slices(report: Report) -> list[Block]:
    if not report.quantities:
        return [Text("no quantity was searched, or no trial has started", True)]
    options = tuple((quantity.name, quantity.label) for quantity in report.quantities)
    chart = Chart("slices", f"{report.ranked_label} by each searched quantity, a mark a trial.", size="slices")
    blocks: list[Block] = [chart]
    if len(options) > 1:
        controls = (Control("x", "across", options), Control("y", "upwards", (*options[1:], options[0])))
        caption = (
            f"Two quantities at a time; the colour and the figure are {report.ranked_label}, the larger the mark the "
            "better. Stopped trials are small crosses without a figure."
        )
        blocks.append(Chart("pair", caption, controls=controls))
    associations = report.associations
    labels = dict(options)
    rows = tuple(
        (labels[one.quantity], f"{one.rho:+.2f}", format_interval(one.low, one.high), str(one.trials))
        for one in associations
    )
    if rows:
        header = ("quantity", "rank correlation", "95 %", "trials")
        blocks.append(Grid(header, rows, f"Rank correlation with {report.ranked_label}", frozenset({1, 3})))
    return [*blocks, *remarks(report.progress.notes)]


def list_importance(report: Report) -> list[Block]:
    """Which quantities separate the best trials from all, or that none is shown to."""
    part = report.importance
    blocks: list[Block] = []
    if any(row.has_signal for row in part.rows):
        blocks.append(
            Chart(
                "importance",
                "Importance of each quantity with its bootstrap band; the dotted line is the most that chance gives.",
            )
        )
    if part.rows:
        rows = tuple(
            (
                label_quantity(row.quantity),
                f"{row.importance:.3f}",
                format_interval(row.low, row.high, 3),
                f"{row.chance:.3f}",
                "yes" if row.has_signal else "no signal",
            )
            for row in part.rows
        )
        header = ("quantity", "importance", "90 % band", "chance", "above chance")
        blocks.append(Grid(header, rows, "Importance", frozenset({1, 3})))
    blocks += remarks(part.notes)
    if part.left_out:
        left = ", ".join(f"{count} {reason}" for reason, count in part.left_out.items())
        blocks.append(Text(f"{count_trials(part.trials)} used; could not be used: {left}", True))
    return blocks


def list_parallel(report: Report) -> list[Block]:
    """All trials with a figure as lines over the quantities."""
    if not report.quantities or not any(trial.figure is not None for trial in report.trials):
        return [Text("nothing to show: no complete trial of a searched quantity", True)]
    top = choose_top(len(report.trials))
    caption = (
        f"Each line is a complete trial, its last axis {report.ranked_label}. Drag along an axis to choose a range; a "
        "quantity that a trial does not have is at the mark 'none'."
    )
    return [Chart("parallel", caption, size="wide", controls=(Control("top", "trials", top),))]


def choose_top(trials: int) -> tuple[tuple[str, str], ...]:
    """The choices of how many trials are drawn: all first, or of many the best 50."""
    fitting = [option for option in TOP if int(option[0]) < trials]
    if trials <= MANY:
        return tuple(fitting)
    return tuple(sorted(fitting, key=lambda option: option[0] != "50"))
