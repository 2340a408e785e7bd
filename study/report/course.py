"""The later sections of a report: trials over time, curves, decodings, hours, what did not help, how to reproduce."""

from __future__ import annotations

from collections.abc import Sequence

from study.report.blocks import Block, Bullets, Chart, Code, Control, Grid, Text, remarks
from study.report.labels import count_trials, format_figure, format_interval, format_value, label_metric
from study.report.parts import DecodingSurface, Trial
from study.report.parts import Table as SmallTable
from study.report.results import choose_top
from study.report.trials import OF_CURVES
from study.report.value import Report

PRINTED_TRIALS = 30  # rows in forms that are printed


def list_trials(report: Report) -> list[Block]:
    """Trials over time, the best so far, what rungs are worth, and the table of all trials."""
    if not report.trials:
        return [Text("no trial has started", True)]
    unstarted = sum(trial.started is None for trial in report.trials)
    without = f" Left out: {count_trials(unstarted)} that never started." if unstarted else ""
    blocks: list[Block] = [
        Chart(
            "history",
            f"{report.ranked_label} of each trial in the order of their numbers, and the best so far. Stopped trials "
            "stand at their last figure, those without any at the lower edge.",
        ),
        Chart("timeline", f"When each trial ran, since the study began, by its state.{without}", size="half"),
        Chart("distribution", f"The share of complete trials up to each {report.ranked_label}, by class.", size="half"),
    ]
    return [*blocks, *_list_rungs(report), *_describe_part(report), _make_table(report)]


def _describe_part(report: Report) -> list[Block]:
    """Of how many dev utterances the figures are, where they are not of all."""
    counts = sorted({int(trial.metrics.get("dev/utterances", 0)) for trial in report.trials} - {0})
    part = f"{' or '.join(map(str, counts))} utterances (validation.utterances)"
    return [Text(f"Figures of the dev sets that are not called final are of {part}.", True)] if counts else []


def _list_rungs(report: Report) -> list[Block]:
    rungs = report.progress.rungs
    if not rungs:
        return [Text("evidence of rungs: needs three complete trials or more with an epoch before the last", True)]
    rows = tuple(
        (
            str(rung.epoch),
            label_metric(rung.metric),
            f"{rung.rho:.2f}",
            format_interval(rung.low, rung.high),
            str(rung.trials),
            "best of all metrics" if rung.kind == "best" else "objective",
        )
        for rung in rungs
    )
    return [
        Chart(
            "rungs",
            "How well figures at an epoch rank trials as their ends do: rank correlation with its interval. Above zero "
            "with the whole interval, early stopping there is better than chance.",
        ),
        Grid(
            ("epoch", "metric", "rho", "interval", "trials", "which"),
            rows,
            "Evidence of rungs",
            frozenset({0, 2, 4}),
            most=20,
        ),
        *remarks(report.progress.lines),
    ]


def _make_table(report: Report) -> Grid:
    values = [quantity.name for quantity in report.quantities]
    labels = [quantity.label for quantity in report.quantities]
    header = (
        "trial",
        "name",
        "class",
        "state",
        "epochs",
        report.ranked_label,
        *map(label_metric, report.columns),
        *labels,
    )
    numbers = frozenset({0, 4, *range(5, 6 + len(report.columns))})
    numbers |= {6 + len(report.columns) + place for place, one in enumerate(report.quantities) if one.is_number}
    order = sorted(report.trials, key=lambda trial: (trial.figure is None, trial.figure or 0.0, trial.number))
    best = next((one.number for one in report.standings if one.role.startswith("best trial")), None)
    rows = tuple(_format_trial(trial, report.columns, values) for trial in order)
    strong = frozenset(row for row, trial in enumerate(order) if trial.number == best)
    return Grid(header, rows, "All trials, the best first", numbers, strong, PRINTED_TRIALS)


def _format_trial(trial: Trial, columns: Sequence[str], values: Sequence[str]) -> tuple[str, ...]:
    name = trial.name or (f"from {trial.source}" if trial.source else "")
    return (
        f"{trial.number:04d}",
        name,
        trial.recipe_class or "–",
        trial.state,
        f"{trial.epochs}/{trial.planned}" if trial.planned else str(trial.epochs),
        format_figure(trial.figure),
        *(format_figure(trial.metrics.get(one)) for one in columns),
        *(format_value(trial.values.get(one)) for one in values),
    )


def list_curves(report: Report) -> list[Block]:
    """The learning curves of all trials."""
    names = [report.objective, *(name for name in OF_CURVES if name != report.objective)]
    metrics = [name for name in names if any(name in trial.curves for trial in report.trials)]
    if not metrics:
        return [Text("no trial has reported an epoch yet", True)]
    controls = (
        Control("metric", "figure", tuple((name, label_metric(name)) for name in metrics)),
        Control("top", "trials", choose_top(len(report.trials))),
        Control("axis", "axis", (("linear", "linear"), ("log", "logarithmic"))),
    )
    caption = "Each line is a trial, its end marked by its state. Lines that end early were stopped, or still run."
    return [Chart("curves", caption, size="tall", controls=controls)]


def list_decodings(report: Report) -> list[Block]:
    """What the searches for a decoding found, for finalists and the best trial."""
    if not report.decodings:
        return [Text("nothing to show: no decoding was searched, or no trial is complete", True)]
    charts: list[Block] = [
        Chart(
            "decoding",
            f"Trial {surface.number:04d}, {surface.why}: dev WER by CTC weight of the decoding, a line for each beam; "
            "other length penalties, mixings and language models are single marks.",
            str(number),
            "half",
        )
        for number, surface in enumerate(report.decodings)
    ]
    return [*charts, *(_make_decodings(surface) for surface in report.decodings)]


def _make_decodings(surface: DecodingSurface) -> Grid:
    sets = list(dict.fromkeys(name for one in surface.tried for name in one.sets)) if surface.tried else []
    sets = sets if len(sets) > 1 else []
    fused = ["language models"] if any(one.language_models != "none" for one in surface.tried) else []
    header = ("stage", "CTC weight", "beam", "length penalty", "mixing", *fused, "dev WER", *sets, "seconds")
    rows = tuple(
        (
            one.stage,
            f"{one.ctc_weight:g}",
            str(one.beam),
            f"{one.length_penalty:g}",
            one.mixing,
            *(one.language_models for _ in fused),
            format_figure(one.wer),
            *(format_figure(one.sets.get(name)) for name in sets),
            format_figure(one.seconds, 1),
        )
        for one in surface.tried
    )
    strong = frozenset(row for row, one in enumerate(surface.tried) if one.is_best)
    numbers = frozenset({1, 2, 3, *range(5 + len(fused), len(header))})
    return Grid(header, rows, f"Decodings of trial {surface.number:04d} ({surface.why})", numbers, strong, 40)


def list_hours(report: Report) -> list[Block]:
    """Where the hours went, and what early stopping saved."""
    hours = report.hours
    if not hours.groups:
        return [Text("no trial has taken measurable time yet", True), *remarks(hours.notes)]
    header = ("trials", *hours.kinds, "sum")
    rows = [
        (name, *(format_hours(sums[kind]) for kind in hours.kinds), format_hours(hours.sums[name]))
        for name, sums in hours.groups.items()
    ]
    blocks: list[Block] = [
        Chart("hours", "Hours of all trials by group, and by what they were spent on."),
        Grid(header, tuple(rows), "Hours of trials", frozenset(range(1, len(header))), frozenset({len(rows) - 1})),
        Text(_describe_saved(report)),
    ]
    devices = ", ".join(f"{name} {format_hours(used)}" for name, used in hours.devices.items())
    blocks.append(Text(f"On: {devices}. From the first event to the last: {format_hours(hours.wall)} hours.", True))
    return [*blocks, *remarks(hours.notes)]


def _describe_saved(report: Report) -> str:
    hours = report.hours
    if not hours.stopped:
        return "Early stopping stopped no trial, so it saved nothing."
    share = (
        ""
        if hours.saved_share is None
        else f", {100 * hours.saved_share:.0f} % of what running all to their end would take"
    )
    return (
        f"Early stopping of {count_trials(hours.stopped)} saved about {format_hours(hours.saved)} hours{share} "
        "(the epochs that were not run, at the pace of those that were)."
    )


def format_hours(hours: float | None) -> str:
    """Hours with as many digits as say something."""
    if hours is None:
        return "–"
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}" if hours >= 0.1 or hours == 0 else f"{hours:.3f}"


def list_negative(report: Report) -> list[Block]:
    """What did not help, and every failure."""
    blocks: list[Block] = []
    if report.not_helped:
        blocks.append(Bullets(report.not_helped))
    else:
        blocks.append(Text("nothing is recorded that did not help; with few trials little can be said", True))
    if report.failures.rows:
        blocks.append(_make_grid(report.failures))
    return blocks


def list_origin(report: Report) -> list[Block]:
    """How to make the figures again."""
    origin = report.origin
    blocks: list[Block] = [
        Code("Commands", "\n".join(origin.commands), folded=False),
        Code("Study file", origin.study_file),
    ]
    if origin.best_recipe:
        blocks.append(Code("Recipe of the best trial", origin.best_recipe))
    inputs, packages, sessions = origin.tables
    text = "\n".join(f"{name} {version}" for name, version in packages.rows)
    return [*blocks, _make_grid(inputs), _make_grid(sessions), Code("Packages", text or "not recorded")]


def _make_grid(table: SmallTable) -> Grid:
    return Grid(table.header, table.rows, table.title, most=40)
