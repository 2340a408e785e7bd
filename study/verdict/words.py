"""A study's verdict in words, each line for itself: what is shown, what is not, and what it would take."""

from __future__ import annotations

import math

from study.verdict.seed_effects import FEWEST_SEEDS, Effect, Judged, count_seeds_needed
from study.verdict.study_verdict import DOMAINS, Verdict

WORTH_SHOWING = 0.5  # points of WER, for the number of seeds that would show so much
FIGURES = {"wer": ("WER", " points"), "ilm_perplexity": ("internal LM perplexity", "")}


def describe_verdict(verdict: Verdict) -> list[str]:
    """The verdict's lines, the answer first."""
    first, second = verdict.classes
    if len(verdict.seeds) < FEWEST_SEEDS:
        lines = [
            f"verdict: {first} against {second}: nothing can be said of the configurations, "
            f"{_count(len(verdict.seeds), 'common seed')} of {FEWEST_SEEDS} at least (confirmation.seeds)"
        ]
    elif "wer" not in verdict.judged:
        lines = [f"verdict: {first} against {second}: no test sets were scored, so nothing is said"]
    else:
        lines = ["verdict: " + _describe_judged(verdict, "wer")]
        if "ilm_perplexity" in verdict.judged:
            lines.append(_describe_judged(verdict, "ilm_perplexity"))
    return [*lines, _describe_luck(verdict)]


def _describe_judged(verdict: Verdict, figure: str) -> str:
    """One figure's effect: "decred has a lower WER than ed, by 1.3 points [0.4, 2.2] (96 %) on ..."."""
    first, second = verdict.classes
    judged, (label, unit) = verdict.judged[figure], FIGURES[figure]
    overall, sets = judged.overall, _list_sets(judged)
    where = f"on the mean of {len(sets)} test sets" if len(sets) > 1 else f"on {sets[0].name}"
    seeds = f"{overall.seeds} seeds each"
    if not judged.is_shown:
        text = f"no difference in {label} shown between {first} and {second}: {_format(overall, unit)} {where}, {seeds}"
        return text + (_describe_need(judged) if figure == "wer" else "")
    word = "lower" if overall.difference < 0 else "higher"
    text = f"{first} has a {word} {label} than {second}, by {_format(overall, unit, magnitude=True)} {where}, {seeds}"
    if len(judged.effects) == 1:
        return text
    shown = ", ".join(f"{effect.name} {_format(effect, unit)}" for effect in judged.shown)
    return f"{text}; of single sets and domains it is shown on {shown or 'none'}"


def _list_sets(judged: Judged) -> list[Effect]:
    return [effect for effect in judged.effects if effect.name not in DOMAINS.values()]


def _describe_need(judged: Judged) -> str:
    overall = judged.overall
    needed = count_seeds_needed(overall.deviation, WORTH_SHOWING, judged.level)
    if needed is None:
        return f"; to show {WORTH_SHOWING:g} points would take more than a thousand seeds"
    more = needed - overall.seeds
    if more <= 0:
        return f"; a difference of {WORTH_SHOWING:g} points would probably have been found"
    return f"; to show {WORTH_SHOWING:g} points would take about {_count(more, 'more seed')}"


def _describe_luck(verdict: Verdict) -> str:
    """What the finalists were chosen by, beside the same figure with new seeds, and how many looks it took."""
    parts = [
        f"{one.finalist.recipe_class} (trial {one.finalist.number:04d}, best of {one.finalist.of}) "
        f"{one.selected:.2f} -> {one.replicated:.2f}"
        for one in (verdict.first, verdict.second)
    ]
    return (
        f"{verdict.selection.metric} when chosen and with new seeds: {', '.join(parts)}; "
        f"{verdict.selection.looks} looks at the dev sets, one of each new training at the test sets"
    )


def _format(effect: Effect, unit: str, magnitude: bool = False) -> str:
    """The difference with its interval and what that covers; its magnitude where the words say the direction."""
    low, high = effect.interval
    difference = effect.difference
    if magnitude and difference < 0:
        difference, low, high = -difference, -high, -low
    covered = f"({100 * effect.coverage:.0f} %)"
    interval = f"[{low:.2f}, {high:.2f}] {covered}" if math.isfinite(low) else "[unknown]"
    return f"{difference:.2f}{unit} {interval}" if magnitude else f"{difference:+.2f}{unit} {interval}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
