"""How many trials a study has yet to run, from its records alone.

Nothing here imports the samplers' library: `status` counts too, and that takes longer to import than all else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.ledger.budget_events import CONFIRMATION, SEARCH
from study.ledger.open_parts import is_closed, list_open
from study.ledger.records import TrialRecord, TrialState
from study.ledger.steering import TRIALS
from study.ledger.trials import Trials
from study.search.class_spaces import make_class_space
from study.search.confirmation import list_untried
from study.search.quantity import Point
from study.verdict.finalists import choose_finalists, current_selection

GridPoint = tuple[str, Point]  # the class of recipes, empty where a study compares none, and a point of its space


def is_sampled(record: TrialRecord) -> bool:
    """Whether a trial is one of those that `trials` counts."""
    return record.baseline is None and record.confirms is None and record.enqueued_by is None


def count_left(study: StudyFile, base: Recipe, trials: Trials) -> int:
    """The trials that run, that continue, and that are to come, by the orders that people have given; `base` is the
    study's base recipe."""
    grid = None
    if study.search.sampler == "grid":
        spaces = {name: make_class_space(name, study.search, base) for name in study.classes or [""]}
        grid = [(name, point) for name, space in spaces.items() for point in space.list_grid(study.search.grid_points)]
    remaining = count_remaining(study, trials, grid)
    return len(list_open(trials, study)) + remaining + count_confirmations(study, base, trials, remaining)


def count_remaining(study: StudyFile, trials: Trials, grid: Collection[GridPoint] | None) -> int:
    """The search's new trials to come: enqueued recipes, baselines, and sampled ones or those of the grid."""
    if is_closed(trials, study, SEARCH):
        return 0
    baselines, sampled = list_untried_baselines(study, trials), count_sampled_left(study, trials, grid)
    return len(trials.steering.enqueued) + len(baselines) + sampled


def list_untried_baselines(study: StudyFile, trials: Mapping[int, TrialRecord]) -> list[str]:
    """The baselines that no trial has, in their order."""
    tried = {record.baseline for record in trials.values()}
    return [name for name in study.baselines if name not in tried]


def count_sampled_left(study: StudyFile, trials: Trials, grid: Collection[GridPoint] | None) -> int:
    """The new trials of the sampler, or of the grid where there is one."""
    asked = trials.steering.get(TRIALS, study.trials) or 0
    left = max(0, asked - sum(is_sampled(record) for record in trials.values()))
    return min(left, len(list_untried_points(grid, trials.values()))) if grid is not None and left else left


def list_untried_points(grid: Iterable[GridPoint], records: Iterable[TrialRecord]) -> list[GridPoint]:
    """The points of a grid that no trial has."""
    points = list(grid)
    classes = {name for name, _ in points}
    tried = {
        (record.recipe_class if record.recipe_class in classes else "", _make_key(record.point))
        for record in records
        # A point that a person has enqueued is tried as well; a baseline on a point is not one of the grid's.
        if record.point and (is_sampled(record) or record.enqueued_by is not None)
    }
    return [(name, point) for name, point in points if (name, _make_key(point)) not in tried]


def count_confirmations(study: StudyFile, base: Recipe, trials: Trials, remaining: int) -> int:
    """The trainings of finalists to come, where the search has so many new trials to come: as many as are planned,
    until the finalists are known."""
    if is_closed(trials, study, CONFIRMATION):
        return 0
    settings, selection = study.confirmation, current_selection(trials, study)
    if remaining or (selection is None and _is_any_open(study, trials)):
        return len(study.classes) * settings.finalists * settings.seeds
    if selection is None and settings.seeds:
        selection = choose_finalists(trials, study)
    return len(list_untried(selection, trials, study, base)) if selection is not None else 0


def _is_any_open(study: StudyFile, trials: Trials) -> bool:
    """Whether a trial runs, or will run again; paused ones that nothing promotes do not."""
    return any(record.state in (TrialState.RUNNING, TrialState.INTERRUPTED) for record in list_open(trials, study))


def _make_key(point: Mapping[str, object]) -> frozenset[tuple[str, object]]:
    """A key that is equal for points that are equal up to the rounding of a recipe's values."""
    return frozenset((name, f"{value:.6g}" if isinstance(value, float) else value) for name, value in point.items())
