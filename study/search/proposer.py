"""What a study tries next: each baseline once, then points of its sampler or grid.

A proposal depends on the study file, the trials so far and its own number alone. So every proposal can be recomputed
from the events before it, and an interrupted study continues with the proposals that it would have made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.baselines import check_baselines
from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.optuna_trials import SamplerTrials
from study.search.proposal import InfeasiblePoint, Proposal
from study.search.quantity import OutsideError, Point
from study.search.sampling import draw_point
from study.search.space import Space

ReadRecipe = Callable[[TrialRecord], Recipe]


class Proposer:
    """Proposes recipes for a study, from its trials so far."""

    def __init__(self, study_file: StudyFile, base_recipe: Recipe, read_recipe: ReadRecipe | None = None) -> None:
        """`read_recipe` gives the recipe of a trial without a recorded point, as versions before 0.2 left them."""
        self._study_file = study_file
        self._search = study_file.search
        self.space = Space(study_file.search, base_recipe)
        self._baselines = check_baselines(study_file.baselines, base_recipe)
        self._grid = _shuffle_grid(self.space, study_file)
        self._read_recipe = read_recipe
        self._sampler_trials = SamplerTrials(self.space, study_file.objective.metric, self._find_point)

    def propose(self, trials: Trials) -> Proposal | InfeasiblePoint | None:
        """The next recipe to try; None when the budget is spent or the grid exhausted.

        A point that decodes to no recipe takes a number too: record it, then call this again.
        """
        number = trials.next_number
        for name in self._list_untried_baselines(trials):
            recipe = self._baselines[name]
            point = self.space.encode_or_none(recipe) or {}
            return Proposal(number, recipe, self.space.describe_recipe(recipe), name, point)
        if self._count_sampled_left(trials) == 0:
            return None
        if self._grid is None:
            point = draw_point(self.space, self._search, number, self._sampler_trials.update(trials))
        else:
            point = self._list_untried_grid(trials)[0]
        try:
            recipe = self.space.decode(point)
        except UserError as error:
            return InfeasiblePoint(number, self.space.describe_point(point), str(error), point)
        if self._search.repeat_seed and self._grid is None:
            tried = {(record.recipe_hash, record.decoding_hash) for record in trials.values()}
            recipe = self.space.with_new_seed(recipe, tried)
        return Proposal(number, recipe, self.space.describe_recipe(recipe), None, point)

    def count_remaining(self, trials: Trials) -> int:
        """The number of proposals to come."""
        return len(self._list_untried_baselines(trials)) + self._count_sampled_left(trials)

    def restore(self, record: TrialRecord, recipe: Recipe) -> Proposal:
        """The proposal of a trial that continues, from its record and its recipe."""
        recipe = self._move_to_corpus(recipe)
        return Proposal(record.number, recipe, self.space.describe_recipe(recipe), record.baseline, record.point or {})

    def locate(self, recipe: Recipe, record: TrialRecord, trials: Mapping[int, TrialRecord]) -> Point | str:
        """The point of another study's trial in this study's space, or the reason why it has none.

        `trials` are those of this study. A baseline of this study is accepted once, with an empty point where it lies
        outside the space.
        """
        recipe, name = self._move_to_corpus(recipe), record.baseline
        if name in self._baselines and self._baselines[name].hash == recipe.hash:
            if name not in self._list_untried_baselines(trials):
                return f"baseline '{name}' was tried here already"
            return self.space.encode_or_none(recipe) or {}
        if self._search.repeat_seed:  # a repeat of a point has another seed
            recipe = self.space.with_base_seed(recipe)
        try:
            return self.space.encode(recipe)
        except OutsideError as error:
            return str(error)

    def _find_point(self, record: TrialRecord) -> Point:
        """The point of a trial that was recorded without one; empty where it has none in this space."""
        if self._read_recipe is None or not record.recipe_hash:
            return {}
        try:
            point = self.locate(self._read_recipe(record), record, {})
        except UserError:
            return {}
        return point if isinstance(point, dict) else {}

    def _list_untried_baselines(self, trials: Mapping[int, TrialRecord]) -> list[str]:
        tried = {record.baseline for record in trials.values()}
        return [name for name in self._baselines if name not in tried]

    def _count_sampled_left(self, trials: Trials) -> int:
        sampled = sum(record.baseline is None for record in trials.values())
        left = max(0, self._study_file.trials - sampled)
        return left if self._grid is None else min(left, len(self._list_untried_grid(trials)))

    def _list_untried_grid(self, trials: Trials) -> list[Point]:
        tried = {_make_key(record.point) for record in trials.values() if record.point and record.baseline is None}
        return [point for point in self._grid or [] if _make_key(point) not in tried]

    def _move_to_corpus(self, recipe: Recipe) -> Recipe:
        """The recipe with the current path of this study's corpus, which does not count in its hash."""
        return with_values(recipe, {"data.corpus": self.space.base.data.corpus})


def _shuffle_grid(space: Space, study_file: StudyFile) -> list[Point] | None:
    """The grid in random order, so that the first trials cover it; None for the other samplers."""
    search = study_file.search
    if search.sampler != "grid":
        return None
    grid = space.list_grid(search.grid_points)
    random.Random(search.seed).shuffle(grid)
    return grid


def _make_key(point: Mapping[str, object]) -> frozenset[tuple[str, object]]:
    """A key that is equal for points that are equal up to the rounding of a recipe's values."""
    return frozenset((name, f"{value:.6g}" if isinstance(value, float) else value) for name, value in point.items())
