"""The first answers of a report: the verdict, the test figures, and who stands where."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.report.labels import DOMAINS
from study.report.parts import Effect, Luck, TestRow, TestsPart, VerdictPart
from study.report.trials import name_trial
from study.verdict.models_at_hand import describe_models
from study.verdict.seed_effects import FEWEST_SEEDS, Judged
from study.verdict.seed_effects import Effect as SeedEffect
from study.verdict.study_verdict import Verdict, make_verdict, read_figures
from study.verdict.words import describe_verdict

MOST_MODELS = 20  # lines on single models


def make_verdict_part(trials: Trials, question: str, find_folder: Callable[[int], Path]) -> VerdictPart:
    """The study's verdict with all its numbers; without one, why there is none."""
    verdict = make_verdict(trials)
    if verdict is None:
        return VerdictPart(notes=(_explain_no_verdict(trials, question),))
    effects = [effect for figure, judged in verdict.judged.items() for effect in _list_effects(verdict, figure, judged)]
    few = len(verdict.seeds) < FEWEST_SEEDS
    return VerdictPart(
        lines=tuple(line.removeprefix("verdict: ") for line in describe_verdict(verdict)),
        classes=verdict.classes,
        seeds=verdict.seeds,
        effects=tuple(effects),
        luck=tuple(
            Luck(
                one.finalist.recipe_class, one.finalist.number, one.finalist.of, one.selected, one.replicated, one.luck
            )
            for one in (verdict.first, verdict.second)
        ),
        looks=verdict.selection.looks,
        models=tuple(describe_models(verdict, find_folder)[:MOST_MODELS]) if few else (),
        notes=(
            "Intervals are by Student's t over common seeds: of a mean of all sets it covers what its claim is made "
            "at, of a single set 95 %. p is corrected for everything that is claimed together.",
        ),
    )


def _explain_no_verdict(trials: Trials, question: str) -> str:
    if question == "none":
        return "no verdict: the study asks no question (question: none), so it compares no classes"
    if trials.selection is None and trials.study_state is TrialState.COMPLETE:
        return f"no verdict: the question is {question}, but the study has ended without finalists"
    if trials.selection is None:
        return f"no verdict yet: the question is {question}, and no finalists are chosen before the search has ended"
    return f"no verdict yet: the question is {question}; finalists are chosen, none of each class is confirmed so far"


def _list_effects(verdict: Verdict, figure: str, judged: Judged) -> list[Effect]:
    """The effect on the mean of all sets first, where it is not that of a single set."""
    ours, theirs = (
        [read_figures(one.trainings[seed], figure) for seed in verdict.seeds] for one in (verdict.first, verdict.second)
    )
    averaged = [effect.name for effect in judged.effects if effect.name not in DOMAINS.values()]
    found = [
        _make_effect(
            figure, effect, effect in judged.shown, [[one[effect.name] for one in side] for side in (ours, theirs)]
        )
        for effect in judged.effects
    ]
    if len(averaged) < 2:
        return found
    means = [[math.fsum(one[name] for name in averaged) / len(averaged) for one in side] for side in (ours, theirs)]
    overall = _make_effect(figure, judged.overall, judged.is_shown, means, f"mean of {len(averaged)} sets")
    return [overall, *found]


def _make_effect(
    figure: str, effect: SeedEffect, is_shown: bool, seeds: Sequence[Sequence[float]], overall: str | None = None
) -> Effect:
    low, high = effect.interval
    return Effect(
        figure=figure,
        name=overall or effect.name,
        is_overall=overall is not None,
        first=effect.first,
        second=effect.second,
        difference=effect.difference,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        coverage=effect.coverage,
        p=effect.p,
        corrected=effect.corrected,
        is_shown=is_shown,
        first_seeds=tuple(seeds[0]),
        second_seeds=tuple(seeds[1]),
    )


def make_tests_part(records: Sequence[TrialRecord], references: Mapping[str, Any]) -> TestsPart:
    """Test figures of single trainings, and published ones of the same sets."""
    rows = [
        TestRow(name_trial(record), record.number, record.recipe_class, figures)
        for record in records
        if (figures := _read_tests(record))
    ]
    sets = tuple(dict.fromkeys(name for row in rows for name in row.figures))
    systems: dict[str, dict[str, dict[str, float]]] = {}
    for name in sets:
        for system, figures in (references.get(name) or {}).items():
            systems.setdefault(system, {})[name] = dict(figures)
    published = tuple(TestRow(system, None, "", figures) for system, figures in systems.items())
    notes = []
    if not rows:
        notes.append("no test set was scored yet")
    elif left := len(records) - len(rows):
        notes.append(f"left out: {left} of {len(records)} trials, whose test sets were not scored")
    if rows and not published:
        notes.append("the corpus has no published figures of these sets")
    return TestsPart(sets, tuple(rows), published, tuple(notes))


def _read_tests(record: TrialRecord) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for figure in ("wer", "ilm_perplexity"):
        for name, value in read_figures(record, figure).items():
            found.setdefault(name, {})[figure] = value
    return found
