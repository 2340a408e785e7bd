"""What was searched and what came of it: planes with their fronts, placements and weights, single quantities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from study.config.search_settings import SEED
from study.config.study_file import StudyFile
from study.evidence.rank_correlation import estimate_interval, spearman
from study.ledger.pareto import Front, find_front
from study.report.labels import count_trials, label_metric, label_quantity
from study.report.parts import Association, Cell, PlacementPart, Plane, Point, Quantity, Trial

PLACEMENT, FINAL_WEIGHT, WEIGHTS = "auxiliary.placement", "final_weight", "auxiliary.weights"
BINS, MOST_PLACEMENTS = 5, 40
PLANES = (  # name, perplexity, WERs of which the first is taken that trials have
    ("dev sets, in domain", "dev/in_domain/ilm_perplexity", ("dev/in_domain/wer_final", "dev/in_domain/wer")),
    (
        "dev sets, out of domain",
        "dev/out_of_domain/ilm_perplexity",
        ("dev/out_of_domain/wer_final", "dev/out_of_domain/wer"),
    ),
    ("all dev sets", "dev/ilm_perplexity", ("dev/wer_final", "dev/wer")),
    ("test sets, in domain", "in_domain/ilm_perplexity", ("in_domain/wer",)),
    ("test sets, out of domain", "out_of_domain/ilm_perplexity", ("out_of_domain/wer",)),
)


def make_planes(trials: Sequence[Trial]) -> list[Plane]:
    """WER against the perplexity of the internal LM of the complete trials, by domain where that is known."""
    planes = [plane for one in PLANES if (plane := _make_plane(trials, *one)) is not None]
    has_domains = sum(plane.name.startswith("dev sets") for plane in planes) == 2
    return [plane for plane in planes if not (has_domains and plane.name == "all dev sets")]


def make_objectives_plane(front: Front | None) -> list[Plane]:
    """The study's two objectives, as its front has them; none of a study of one objective."""
    if front is None:
        return []
    (first, second), notes = front.metrics, []
    points = tuple(Point(one.number, one.second, one.first, one.on_front) for one in front.compared)
    if not points:
        notes.append("nothing to show: no complete trial within the limits has both figures")
    if front.lacking:
        notes.append(f"left out: {count_trials(len(front.lacking))}, complete but without {label_metric(second)}")
    return [Plane("both objectives", second, first, points, tuple(notes), is_objectives=True)]


def _make_plane(trials: Sequence[Trial], name: str, x_metric: str, rates: Sequence[str]) -> Plane | None:
    complete = [trial for trial in trials if trial.state == "complete"]
    y_metric = next((rate for rate in rates if any(rate in trial.metrics for trial in complete)), None)
    # Where epochs score a part of the dev sets, the WER of all goes with the perplexity of all.
    of_all = f"{x_metric}_final"
    if y_metric is not None and y_metric.endswith("_final") and any(of_all in trial.metrics for trial in complete):
        x_metric = of_all
    usable = [trial for trial in complete if x_metric in trial.metrics and y_metric in trial.metrics]
    if y_metric is None or not usable:
        return None
    pairs = [(trial.metrics[x_metric], trial.metrics[y_metric]) for trial in usable]
    front = find_front(pairs)
    points = tuple(Point(trial.number, *pair, pair in front) for trial, pair in zip(usable, pairs, strict=True))
    return Plane(name, x_metric, y_metric, points, tuple(describe_left_out(trials, usable)))


def describe_left_out(trials: Sequence[Trial], shown: Sequence[Trial]) -> list[str]:
    """How many trials a chart leaves out, and why; nothing where it shows all."""
    numbers = {trial.number for trial in shown}
    reasons: dict[str, int] = {}
    for trial in trials:
        if trial.number not in numbers:
            reason = "complete but without these figures" if trial.state == "complete" else trial.state
            reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        return []
    parts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return [f"{count_trials(len(shown))} shown; left out: {parts}"]


def make_placements(trials: Sequence[Trial]) -> PlacementPart:
    """Mean figures of the searched trials by placement and by the weight of the final classifier."""
    searched = [trial for trial in trials if trial.is_search and PLACEMENT in trial.values]
    usable = [trial for trial in searched if trial.figure is not None and FINAL_WEIGHT in trial.values]
    if not usable:
        why = "the study searches no placement" if not searched else "no trial with a placement is complete"
        return PlacementPart((), (), (), (), (f"nothing to show: {why}",))
    by_placement: dict[str, list[Trial]] = {}
    for trial in usable:
        by_placement.setdefault(str(trial.values[PLACEMENT]), []).append(trial)
    order = sorted(by_placement, key=_order_placement)
    notes = describe_left_out(searched, usable)
    if len(order) > MOST_PLACEMENTS:
        kept = sorted(order, key=lambda one: min(_figures(by_placement[one])))[:MOST_PLACEMENTS]
        notes.append(f"the {MOST_PLACEMENTS} best of {len(order)} placements are shown")
        order = [placement for placement in order if placement in kept]
    edges = _list_edges([trial for trial in usable if trial.values[PLACEMENT] != "none"])
    cells = []
    for placement in order:
        for column in range(max(len(edges) - 1, 0)):
            inside = [trial for trial in by_placement[placement] if _find_column(trial, edges) == column]
            if inside and placement != "none":
                cells.append(_make_cell(placement, column, inside))
    totals = tuple(_make_cell(placement, None, by_placement[placement]) for placement in order)
    return PlacementPart(tuple(order), tuple(edges), tuple(cells), totals, tuple(notes))


def _list_edges(trials: Sequence[Trial]) -> list[float]:
    weights = [float(trial.values[FINAL_WEIGHT]) for trial in trials]
    if not weights:
        return []
    low, high = math.floor(10 * min(weights)) / 10, math.ceil(10 * max(weights) - 1e-9) / 10
    bins = max(1, min(BINS, round(10 * (high - low))))
    return [low + (high - low) * number / bins for number in range(bins + 1)] if high > low else [low, low + 0.1]


def _find_column(trial: Trial, edges: Sequence[float]) -> int:
    weight = float(trial.values[FINAL_WEIGHT])
    return max(0, min(len(edges) - 2, sum(weight >= edge - 1e-9 for edge in edges[1:-1])))


def _order_placement(placement: str) -> tuple[int, list[int]]:
    layers = [] if placement == "none" else [int(layer) for layer in placement.split(",")]
    return len(layers), layers


def _figures(trials: Sequence[Trial]) -> list[float]:
    return [trial.figure for trial in trials if trial.figure is not None]


def _make_cell(placement: str, column: int | None, trials: Sequence[Trial]) -> Cell:
    best = min(trials, key=lambda trial: (trial.figure, trial.number))
    figures = _figures(trials)
    low, high = measure_interval(figures)
    return Cell(placement, column, len(figures), fmean(figures), low, high, min(figures), best.number)


def measure_interval(figures: Sequence[float]) -> tuple[float | None, float | None]:
    """The interval of 95 % of the mean, by Student's t; None where one figure alone says nothing of it."""
    if len(figures) < 2:
        return None, None
    from scipy.special import stdtrit

    margin = float(stdtrit(len(figures) - 1, 0.975)) * stdev(figures) / math.sqrt(len(figures))
    return fmean(figures) - margin, fmean(figures) + margin


def list_quantities(trials: Sequence[Trial], study: StudyFile) -> list[Quantity]:
    """The quantities that trials have values of. Weights of several classifiers are none of their own, nor is the seed
    of a point that was tried again."""
    names = dict.fromkeys(name for trial in trials for name in trial.values if name not in (WEIGHTS, SEED))
    if SEED in study.search.recipe and any(SEED in trial.values for trial in trials):
        names |= {SEED: None}
    return [_make_quantity(name, trials, study) for name in names]


def _make_quantity(name: str, trials: Sequence[Trial], study: StudyFile) -> Quantity:
    values = [trial.values[name] for trial in trials if name in trial.values]
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    texts = sorted({str(value) for value in values}, key=_order_placement if name == PLACEMENT else None)
    dimension = study.search.ctc_weight if name == "ctc_weight" else study.search.recipe.get(name)
    is_log = is_number and dimension is not None and dimension.log_uniform is not None
    if is_number and dimension is not None and dimension.choice is not None and min(values) > 0:
        is_log = max(values) >= 30 * min(values)
    return Quantity(name, label_quantity(name), is_number, is_log, () if is_number else tuple(texts))


def measure_associations(trials: Sequence[Trial], quantities: Sequence[Quantity]) -> list[Association]:
    """The rank correlation of every number that was searched with the figure, over the searched complete trials."""
    found = []
    for quantity in quantities:
        pairs = [
            (float(trial.values[quantity.name]), trial.figure)
            for trial in trials
            if quantity.is_number and trial.is_search and trial.figure is not None and quantity.name in trial.values
        ]
        rho = spearman([x for x, _ in pairs], [y for _, y in pairs])
        if rho is not None:
            low, high = estimate_interval(rho, len(pairs))
            found.append(Association(quantity.name, rho, low, high, len(pairs)))
    return found
