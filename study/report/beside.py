"""Two studies side by side: what their files differ in, who is best, and the trials that both have."""

from __future__ import annotations

from study.report.blocks import Block, Chart, Grid, Text
from study.report.labels import format_figure, format_values
from study.report.parts import Trial
from study.report.standings import describe_counts
from study.report.value import Report

IGNORED = ("name", "storage")  # settings in which any two studies differ
MOST_COMMON = 200


def list_common(first: Report, second: Report) -> list[Block]:
    """What both are, what they differ in, the best so far of both, and common trials."""
    blocks: list[Block] = [_make_summary(first, second)]
    if first.ranked_by != second.ranked_by:
        blocks.append(
            Text(
                f"{first.name} is ranked by {first.ranked_label}, {second.name} by {second.ranked_label}: their "
                "figures are not of one kind."
            )
        )
    blocks.append(_make_differences(first, second))
    blocks.append(Chart("both", "The best figure so far of both studies, by the number of the trial."))
    return [*blocks, *_list_common_trials(first, second)]


def _make_summary(first: Report, second: Report) -> Grid:
    rows = [
        ("question", first.question, second.question),
        ("state", first.state, second.state),
        ("trials", describe_counts(first.counts), describe_counts(second.counts)),
        ("ranked by", first.ranked_label, second.ranked_label),
        ("best trial", _describe_best(first), _describe_best(second)),
        ("verdict", *(one.headline[0] for one in (first, second))),
    ]
    return Grid(("", first.name, second.name), tuple(rows), "Both studies")


def _describe_best(report: Report) -> str:
    best = next((one for one in report.standings if one.role.startswith("best trial")), None)
    if best is None:
        return "none yet"
    return f"{best.number:04d}, {format_figure(best.figure)} ({format_values(best.values)})"


def list_differences(first: Report, second: Report) -> list[tuple[str, str, str]]:
    """Key of the study files, and the value of each; a dash where a file has none."""
    keys = list(dict.fromkeys([*first.origin.settings, *second.origin.settings]))
    rows = [
        (key, first.origin.settings.get(key, "–"), second.origin.settings.get(key, "–"))
        for key in keys
        if key not in IGNORED
    ]
    return [row for row in rows if row[1] != row[2]]


def _make_differences(first: Report, second: Report) -> Grid | Text:
    rows = list_differences(first, second)
    if not rows:
        return Text("The study files differ in nothing but their names.")
    return Grid(("key", first.name, second.name), tuple(rows), "What the study files differ in", most=60)


def find_common(first: Report, second: Report) -> list[tuple[Trial, Trial]]:
    """Pairs of searched trials that tried the same values, each trial at most once, in the order of the first."""
    waiting: dict[tuple[tuple[str, str], ...], list[Trial]] = {}
    for trial in second.trials:
        if trial.is_search and trial.values:
            waiting.setdefault(_key(trial), []).append(trial)
    pairs = []
    for trial in first.trials:
        same = waiting.get(_key(trial), []) if trial.is_search and trial.values else []
        if same:
            pairs.append((trial, same.pop(0)))
    return pairs


def _key(trial: Trial) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in trial.values.items()))


def _list_common_trials(first: Report, second: Report) -> list[Block]:
    pairs = find_common(first, second)
    if not pairs:
        return [Text("No trial of one study tried the values of a trial of the other.", True)]
    header = (
        f"{first.name}",
        f"{second.name}",
        "values",
        first.name + " figure",
        second.name + " figure",
        "difference",
    )
    rows = tuple(_format_pair(*pair) for pair in pairs[:MOST_COMMON])
    title = f"Common trials: {len(pairs)}" + (f", the first {MOST_COMMON}" if len(pairs) > MOST_COMMON else "")
    return [Grid(header, rows, title, frozenset({0, 1, 3, 4, 5}), most=40)]


def _format_pair(one: Trial, other: Trial) -> tuple[str, ...]:
    both = one.figure is not None and other.figure is not None
    difference = f"{one.figure - other.figure:+.2f}" if both else "–"  # type: ignore[operator]
    figures = [format_figure(side.figure) if side.figure is not None else side.state for side in (one, other)]
    return (f"{one.number:04d}", f"{other.number:04d}", format_values(one.values), *figures, difference)
