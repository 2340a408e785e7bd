"""What a study tries next: each baseline once, then points of its sampler or grid, then its finalists with new seeds.

The classes of recipes that a study compares take turns; each has a sampler that learns from the trials of its class,
and from the others' where the quantities that both search are good.

A proposal depends on the study file, the trials so far and its own number alone. So every proposal can be recomputed
from the events before it, and an interrupted study continues with the proposals that it would have made.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.baselines import check_baselines
from study.config.places import study_folder
from study.config.question import class_of
from study.config.search_settings import SEED
from study.config.study_file import StudyFile
from study.ledger.best import PARAMETERS
from study.ledger.budget_events import CONFIRMATION, SEARCH
from study.ledger.events import FinalistsChosen
from study.ledger.open_parts import is_closed
from study.ledger.records import TrialRecord
from study.ledger.steering import Enqueued
from study.ledger.trials import Trials
from study.search.class_spaces import make_class_space, make_whole_space
from study.search.confirmation import list_untried, make_confirmation, take_decoding
from study.search.model_size import find_excess
from study.search.optuna_trials import SamplerTrials
from study.search.other_classes import project_trials
from study.search.own_weights import find_weights_here
from study.search.prior import draw_near, list_found, list_tried_first
from study.search.proposal import InfeasiblePoint, Proposal
from study.search.quantity import OutsideError, Point
from study.search.sampling import draw_point
from study.search.space import Space
from study.search.trials_left import (
    GridPoint,
    count_confirmations,
    count_remaining,
    count_sampled_left,
    is_sampled,
    list_untried_baselines,
    list_untried_points,
)
from study.verdict.finalists import choose_finalists, current_selection

ReadRecipe = Callable[[TrialRecord], Recipe]


@dataclass(frozen=True)
class _Sampled:
    """What a sampler draws from: a space, and the trials that it learns from."""

    space: Space
    trials: SamplerTrials


class Proposer:
    """Proposes recipes for a study, from its trials so far."""

    def __init__(self, study_file: StudyFile, base_recipe: Recipe, read_recipe: ReadRecipe | None = None) -> None:
        """`read_recipe` gives the recipe of a trial: of finalists, and of those without a recorded point, as versions
        before 0.2 left them."""
        self._study_file = study_file
        self._search = study_file.search
        self.space = make_whole_space(study_file.search, base_recipe, study_file.classes)
        self._baselines = check_baselines(study_file.baselines, base_recipe)
        self._read_recipe = read_recipe
        spaces = {name: make_class_space(name, study_file.search, base_recipe) for name in study_file.classes}
        self._sampled = {name: self._make_sampled(space) for name, space in (spaces or {"": self.space}).items()}
        self._grid = _shuffle_grids(self.class_spaces, study_file)

    def propose(self, trials: Trials, without: Collection[str] = ()) -> Proposal | InfeasiblePoint | None:
        """The next recipe to try; None when the search's budget is spent or the grid exhausted. `without` has the ids
        of enqueued recipes that have to wait.

        A point that decodes to no recipe takes a number too: record it, then call this again.
        """
        number = trials.next_number
        if is_closed(trials, self._study_file, SEARCH):
            return None
        for enqueued in trials.steering.enqueued:
            if enqueued.id not in without:
                return self._propose_enqueued(enqueued, number)
        for name in list_untried_baselines(self._study_file, trials):
            recipe = self._baselines[name]
            point = self._encode_or_none(recipe) or {}
            return Proposal(number, recipe, self.space.describe_recipe(recipe), name, point)
        if count_sampled_left(self._study_file, trials, self._grid) == 0:
            return None
        name, space, point = self._draw(trials, number)
        try:
            recipe = space.decode(point)
        except UserError as error:
            return InfeasiblePoint(number, self.space.describe_point(point), str(error), point, name)
        if reason := find_excess(recipe, self._study_file.objective):
            return InfeasiblePoint(number, self.space.describe_point(point), reason, point, name)
        if self._search.repeat_seed and self._grid is None:
            tried = {(record.recipe_hash, record.decoding_hash) for record in trials.values()}
            recipe = space.with_new_seed(recipe, tried)
        return Proposal(number, recipe, self.space.describe_recipe(recipe), None, point)

    def confirm(self, trials: Trials) -> Proposal | FinalistsChosen | None:
        """The next training of a finalist, once the search is over; None when all are trained, or there is none.

        First the finalists themselves: record them, then call this again.
        """
        if is_closed(trials, self._study_file, CONFIRMATION):
            return None
        selection = current_selection(trials, self._study_file)
        if selection is None:
            return choose_finalists(trials, self._study_file) if self._study_file.confirmation.seeds else None
        for number, seed in list_untried(selection, trials, self._study_file, self.space.base):
            assert self._read_recipe is not None, "finalists have recipes"
            finalist = trials[number]
            recipe = take_decoding(self._read_recipe(finalist), finalist, self.space.base, self._search.recipe)
            recipe = make_confirmation(self._move_here(recipe), seed, selection.stage)
            values = self.space.describe_recipe(recipe) | {SEED: seed}
            return Proposal(trials.next_number, recipe, values, None, finalist.point or {}, confirms=number)
        return None

    def count_confirmations(self, trials: Trials) -> int:
        """The trainings of finalists to come: as many as are planned, until the finalists are known."""
        return count_confirmations(self._study_file, self.space.base, trials, self.count_remaining(trials))

    def count_remaining(self, trials: Trials) -> int:
        """The number of the search's proposals to come."""
        return count_remaining(self._study_file, trials, self._grid)

    def restore(self, record: TrialRecord, recipe: Recipe) -> Proposal:
        """The proposal of a trial that continues, from its record and its recipe."""
        recipe = self._move_here(recipe)
        values = self.space.describe_recipe(recipe)
        if record.confirms is not None:
            values[SEED] = recipe.training.seed
        return Proposal(record.number, recipe, values, record.baseline, record.point or {}, record.confirms)

    def locate(self, recipe: Recipe, record: TrialRecord, trials: Mapping[int, TrialRecord]) -> Point | str:
        """The point of another study's trial in this study's space, or the reason why it has none.

        `trials` are those of this study. A baseline of this study is accepted once, with an empty point where it lies
        outside the space.
        """
        recipe, name = self._move_to_corpus(recipe), record.baseline
        if name in self._baselines and self._baselines[name].hash == recipe.hash:
            if name not in list_untried_baselines(self._study_file, trials):
                return f"baseline '{name}' was tried here already"
            return self._encode_or_none(recipe) or {}
        if self._search.repeat_seed:  # a repeat of a point has another seed
            recipe = self.space.with_base_seed(recipe)
        if (point := self._encode_or_none(recipe)) is not None:
            return point
        try:
            return self.space.encode(recipe)
        except OutsideError as error:
            return str(error)

    @property
    def class_spaces(self) -> dict[str, Space]:
        """The space of each class that the study compares; where it asks nothing, that of all recipes, without name."""
        return {name: sampled.space for name, sampled in self._sampled.items()}

    def _draw(self, trials: Trials, number: int) -> tuple[str, Space, Point]:
        """The next point, the class whose turn it is, and the space of that class."""
        if self._grid is not None:
            name, point = list_untried_points(self._grid, trials.values())[0]
            return name, self._sampled[name].space, point
        names = list(self._sampled)
        name = names[sum(is_sampled(record) for record in trials.values()) % len(names)]
        space, found = self._sampled[name].space, list_found(trials.prior, name)
        tried = [record.point or {} for record in _select(trials, name).values() if is_sampled(record)]
        if first := list_tried_first(found, tried):
            return name, space, first[0]
        known = {one: part.trials.update(_select(trials, one)) for one, part in self._sampled.items()}
        own, others = known[name], [trial for one in names if one != name for trial in known[one]]
        objectives = 1 if self._second is None else 2
        point = draw_point(space, self._search, number, [*own, *project_trials(own, others)], objectives)
        return name, space, draw_near(point, found, space, self._search, number, len(tried))

    def _propose_enqueued(self, enqueued: Enqueued, number: int) -> Proposal:
        """A recipe of a person's. Outside the space it has no point, and no sampler learns from it."""
        recipe = self._move_here(Recipe.model_validate_json(enqueued.recipe))
        point = self._encode_or_none(recipe) or {}
        return Proposal(number, recipe, self.space.describe_recipe(recipe), None, point, enqueued=enqueued)

    def _make_sampled(self, space: Space) -> _Sampled:
        objective = self._study_file.objective
        limits = {str(name): limit for name, limit in objective.limits.items() if name != PARAMETERS}
        return _Sampled(space, SamplerTrials(space, objective.metric, self._find_point, limits, self._second))

    @property
    def _second(self) -> str | None:
        """The second metric that the sampler minimises. Where trials are stopped early it minimises one alone: Optuna
        can learn from stopped trials by one figure only, and most trials may be such."""
        return self._study_file.objective.second if self._study_file.early_stopping.rule == "none" else None

    def _encode_or_none(self, recipe: Recipe) -> Point | None:
        """The recipe's point in the space of its class; None where it has none."""
        sampled = self._sampled.get(class_of(recipe)) or self._sampled.get("")
        return sampled.space.encode_or_none(recipe) if sampled is not None else None

    def _find_point(self, record: TrialRecord) -> Point:
        """The point of a trial that was recorded without one; empty where it has none in this space."""
        if self._read_recipe is None or not record.recipe_hash:
            return {}
        try:
            point = self.locate(self._read_recipe(record), record, {})
        except UserError:
            return {}
        return point if isinstance(point, dict) else {}

    def _move_here(self, recipe: Recipe) -> Recipe:
        """The recipe with the current paths of this study's corpus and of the trial that it starts from."""
        source = find_weights_here(recipe, self.space.base, study_folder(self._study_file))
        return with_values(recipe, {"data.corpus": self.space.base.data.corpus, "init_from": source})

    def _move_to_corpus(self, recipe: Recipe) -> Recipe:
        """The recipe with the current path of this study's corpus, which does not count in its hash."""
        return with_values(recipe, {"data.corpus": self.space.base.data.corpus})


def _select(trials: Mapping[int, TrialRecord], name: str) -> dict[int, TrialRecord]:
    """The search's trials of a class; of all where it has no name."""
    return {
        number: record
        for number, record in trials.items()
        if record.confirms is None and name in ("", record.recipe_class)
    }


def _shuffle_grids(spaces: Mapping[str, Space], study_file: StudyFile) -> list[GridPoint] | None:
    """Each class's grid in random order, so that the first trials cover it, and the classes in turn, as long as all
    have points left; None for the other samplers."""
    search = study_file.search
    if search.sampler != "grid":
        return None
    rows = []
    for name, space in spaces.items():
        grid = space.list_grid(search.grid_points)
        random.Random(search.seed).shuffle(grid)
        rows.append([(name, point) for point in grid])
    return [point for turn in itertools.zip_longest(*rows) for point in turn if point is not None]
