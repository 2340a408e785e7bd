"""Who stands where: the best trial, the baselines and the best of each class, for the first screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from study.ledger.records import TrialRecord
from study.report.labels import count_trials, format_figure, format_values
from study.report.parts import Standing, VerdictPart


def make_standings(
    records: Sequence[TrialRecord], figures: Mapping[int, float], best: TrialRecord | None
) -> list[Standing]:
    """The best trial, every baseline, and of each class the best trial where that is none of these."""
    searched = [record for record in records if record.confirms is None]
    reference = None if best is None else figures.get(best.number)
    listed: dict[int, Standing] = {}

    def add(role: str, record: TrialRecord) -> None:
        figure = figures.get(record.number)
        behind = None if figure is None or reference is None else figure - reference
        listed.setdefault(
            record.number,
            Standing(role, record.number, record.state.value, figure, record.recipe_class, record.values, behind),
        )

    if best is not None:
        add("best trial" + (f", baseline {best.baseline}" if best.baseline else ""), best)
    for record in searched:
        if record.baseline:
            add(f"baseline {record.baseline}", record)
    for name in dict.fromkeys(record.recipe_class for record in searched if record.recipe_class):
        of_class = [record for record in searched if record.recipe_class == name and record.number in figures]
        if of_class:
            add(f"best of {name}", min(of_class, key=lambda record: (figures[record.number], record.number)))
    return list(listed.values())


def make_headline(
    verdict: VerdictPart, standings: Sequence[Standing], counts: Mapping[str, int], state: str, label: str
) -> list[str]:
    """The report in a few sentences: the verdict, the best trial, the baselines, and how far the study is."""
    lines = list(verdict.lines or verdict.notes[:1])
    best = next((one for one in standings if one.role.startswith("best trial")), None)
    if best is None:
        lines.append("No trial is complete, so none is best." if counts else "No trial has started.")
    else:
        class_ = f" ({best.recipe_class})" if best.recipe_class else ""
        lines.append(
            f"Best trial: {best.number:04d}{class_}, {label} {format_figure(best.figure)}"
            + (f"; {format_values(best.values)}" if best.values else "")
            + "."
        )
    baselines = [one for one in standings if "baseline" in one.role]
    if baselines:
        parts = [
            f"{one.role.split('baseline ')[1]} (trial {one.number:04d}) "
            + (format_figure(one.figure) if one.figure is not None else one.state)
            for one in baselines
        ]
        lines.append(f"Baselines, {label}: {', '.join(parts)}.")
    total = sum(counts.values())
    lines.append(f"The study is {state}: {count_trials(total)}" + (f", {describe_counts(counts)}." if counts else "."))
    return lines


def describe_counts(counts: Mapping[str, int]) -> str:
    """8 complete, 3 pruned."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
