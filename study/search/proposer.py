"""Optuna behind one class: what is proposed, and what became of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import optuna
import optuna.trial
from optuna.trial import FrozenTrial

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.baselines import check_baselines
from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord, TrialState
from study.search.optuna_store import guarded, open_storage, open_study, place, translated
from study.search.optuna_view import BASELINE, GRID, RECIPE, STATE, RecipeOf, View, refuse_other, told, undecided
from study.search.proposal import Proposal, Refused
from study.search.quantity import Point
from study.search.sampling import TPE_NOTE, TrialSource, learned_from, quiet, sampler, shuffled_grid
from study.search.space import Space

logger = logging.getLogger(__name__)

FILLING = "filling"  # attribute of an Optuna study, true until all trials of the ledger are in it


def _logged(refused: Refused) -> None:
    logger.warning("trial %d is infeasible: %s", refused.number, refused.reason)


class Proposer:
    """Proposes baselines once each, then sampled recipes, and learns from what is told."""

    def __init__(
        self, study_file: StudyFile, base_recipe: Recipe, storage_url: str, identity: str | None = None
    ) -> None:
        """`identity` is the study folder's, for a database that several folders share."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.url = storage_url
        self._study_file = study_file
        self._search = study_file.search
        self.space = Space(study_file.search, base_recipe)
        self._baselines = check_baselines(study_file.baselines, base_recipe)
        self._grid = shuffled_grid(self.space, self._search)
        self._view = View(study_file, self.space, self._baselines, self._grid)
        self._hashes: dict[int, str] = {}  # of the recipes that trials have
        self._storage = open_storage(storage_url)
        with translated(storage_url):
            self._study = open_study(self._storage, study_file.name, identity)
            self._study_id = self._storage.get_study_id_from_name(study_file.name)
        self._interrupted: list[Proposal] | None = None  # looked up later, for `follow` may have to come first
        self._undecided: list[int] = []  # asked for when a crash came, and not yet made a recipe

    @guarded
    def follow(self, records: Mapping[int, TrialRecord], recipe_of: RecipeOf) -> int:
        """Fill an empty database with the trials of the ledger, under their numbers; how many there were to fill in.

        A database that is not the ledger's is a UserError, and stays as it is.
        """
        trials = self._trials()
        if trials and not self._study.user_attrs.get(FILLING):
            refuse_other(trials, records, recipe_of, place(self.url))
            return 0
        missing = [self._again(records.get(n), recipe_of) for n in range(len(trials), max(records, default=-1) + 1)]
        if missing:
            self._study.set_user_attr(FILLING, True)  # where a crash comes before the end, the next call goes on
            for trial in missing:
                self._study.add_trial(trial)
            self._study.set_user_attr(FILLING, False)
        return len(missing)

    def _again(self, record: TrialRecord | None, recipe_of: RecipeOf) -> FrozenTrial:
        if record is None:
            return undecided()
        try:
            recipe = self._moved(recipe_of(record)) if record.recipe_hash else None
        except UserError:
            if not record.state.final:  # it cannot go on without its recipe
                raise
            recipe = None
        return self._view.again(record, recipe)

    @guarded
    def propose(self, infeasible: Callable[[Refused], None] = _logged, paused: Collection[int] = ()) -> Proposal | None:
        """The next recipe to try; None when the budget is spent or the grid exhausted.

        `infeasible` hears of every point on the way that makes no recipe, before Optuna is told. `paused` are the
        trials that wait at a rung: the sampler learns from what they have shown.
        """
        self.interrupted()  # looks for what a crash left undecided
        with quiet():
            while (trial := self._asked_before() or self._asked(paused)) is not None:
                if (proposal := self._filled(trial, infeasible)) is not None:
                    return proposal
        return None

    def _asked_before(self) -> optuna.Trial | None:
        """A trial that a crash left between Optuna's answer and the recipe: the rest of its point is asked for now."""
        if not self._undecided:
            return None
        number = self._undecided.pop(0)
        self._study.sampler = sampler(self._search, number)
        return optuna.Trial(self._study, self._trial_id(number))

    def _asked(self, paused: Collection[int]) -> optuna.Trial | None:
        if not (
            self._trials(optuna.trial.TrialState.WAITING) or self._enqueue_baseline() or self._enqueue_sample(paused)
        ):
            return None
        waiting, number = self._trials(optuna.trial.TrialState.WAITING), len(self._trials())
        # What is enqueued is decided; TPE would note a point of its own beside it and take that for running.
        self._study.sampler = optuna.samplers.RandomSampler() if waiting else sampler(self._search, number)
        return self._study.ask()

    @guarded
    def report(self, number: int, step: int, value: float) -> None:
        """A rung's value, after epoch `step`. The same step again replaces it."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    @guarded
    def tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        """How the trial ended. An interrupted one stays open; telling an ended one again changes nothing."""
        if state is TrialState.INTERRUPTED:
            return
        if not state.final:
            raise ValueError(f"trial {number} was told {state}, but must have ended")
        end = told(state, value)
        if self._interrupted is not None:
            self._interrupted = [proposal for proposal in self._interrupted if proposal.number != number]
        self._undecided = [each for each in self._undecided if each != number]
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError), quiet():
            self._storage.set_trial_user_attr(self._trial_id(number), STATE, state.value)
            self._study.tell(
                number, value if end is optuna.trial.TrialState.COMPLETE else None, end, skip_if_finished=True
            )

    @guarded
    def interrupted(self) -> list[Proposal]:
        """The trials that were running when the study was opened, and have not ended; they go on as they are."""
        if self._interrupted is None:
            left = [self._left_running(trial) for trial in self._trials(optuna.trial.TrialState.RUNNING)]
            self._interrupted = [proposal for proposal in left if proposal is not None]
        return list(self._interrupted)

    @guarded
    def adopt(self, recipe: Recipe, record: TrialRecord) -> int | str:
        """Take in a trial that ended in another study: its number here, or why it does not belong here.

        It counts against the budget, unless it is a baseline of this study, which then is not tried again.
        """
        taken = {trial.user_attrs.get(BASELINE) for trial in self._trials()}
        adopted = self._view.adopted(self._moved(recipe), record, taken)
        if isinstance(adopted, str):
            return adopted
        self._study.add_trial(adopted)
        return self._trials()[-1].number

    @guarded
    def remaining(self) -> int:
        """Proposals still to come."""
        self.interrupted()  # looks for what a crash left undecided
        trials = self._trials()
        unseen = len(self._baselines.keys() - {trial.user_attrs.get(BASELINE) for trial in trials})
        waiting = sum(trial.state is optuna.trial.TrialState.WAITING for trial in trials)
        left = max(0, self._study_file.trials - _sampled(trials))
        if self._grid is not None:
            left = min(left, len(self._untried(trials)))
        return unseen + waiting + left + len(self._undecided)

    def _enqueue_baseline(self) -> bool:
        seen = {trial.user_attrs.get(BASELINE) for trial in self._trials()}
        name = next((name for name in self._baselines if name not in seen), None)
        if name is not None:
            self._study.enqueue_trial(self.space.point(self._baselines[name]) or {}, user_attrs={BASELINE: name})
        return name is not None

    def _enqueue_sample(self, paused: Collection[int]) -> bool:
        """Whether a sampled point is to come; what is known of it before Optuna is asked is enqueued."""
        trials = self._trials()
        untried = self._untried(trials)
        if _sampled(trials) >= self._study_file.trials or (self._grid is not None and not untried):
            return False
        if untried:
            self._study.enqueue_trial(untried[0], user_attrs={GRID: untried[0]})
        elif (point := learned_from(trials, paused, self._search, self.space)) is not None:
            self._study.enqueue_trial(point)
        return True

    def _untried(self, trials: Sequence[FrozenTrial]) -> list[Point]:
        tried = [trial.user_attrs[GRID] for trial in trials if GRID in trial.user_attrs]
        return [point for point in self._grid or [] if point not in tried]

    def _filled(self, trial: optuna.Trial, infeasible: Callable[[Refused], None]) -> Proposal | None:
        """Suggest what the recipe needs and keep the recipe in the trial."""
        name = trial.user_attrs.get(BASELINE)
        recipe = self._baselines[name] if name else None
        if recipe is None or self.space.point(recipe) is not None:
            point = self.space.suggest(TrialSource(trial))
            self._storage.set_trial_system_attr(self._trial_id(trial.number), TPE_NOTE, "")
        try:
            recipe = recipe or self.space.recipe(point)
        except UserError as error:
            infeasible(Refused(trial.number, self.space.values_at(point), str(error), trial.params))
            self.tell(trial.number, TrialState.INFEASIBLE)
            return None
        if name is None and self._search.repeat_seed and self._grid is None:
            recipe = self.space.reseeded(recipe, self._tried())
        return self._kept(trial, recipe, name)

    def _kept(self, trial: optuna.Trial | FrozenTrial, recipe: Recipe, name: str | None) -> Proposal:
        self._storage.set_trial_user_attr(self._trial_id(trial.number), RECIPE, recipe.model_dump_json())
        return Proposal(trial.number, recipe, self.space.values(recipe), name, trial.params)

    def _tried(self) -> set[str]:
        """The hashes of all recipes that were ever tried; an infeasible trial has none."""
        for trial in self._trials():
            if trial.number not in self._hashes and RECIPE in trial.user_attrs:
                self._hashes[trial.number] = Recipe.model_validate_json(trial.user_attrs[RECIPE]).hash
        return set(self._hashes.values())

    def _left_running(self, trial: FrozenTrial) -> Proposal | None:
        """What a trial that another process left running tries; None when that process died before it was decided."""
        attributes = trial.user_attrs
        name = attributes.get(BASELINE)
        if RECIPE in attributes:
            recipe = self._moved(Recipe.model_validate_json(attributes[RECIPE]))
        elif name in self._baselines:
            recipe = self._baselines[name]
        elif GRID in attributes:
            recipe = self.space.recipe(attributes[GRID])
        elif name is not None:  # a baseline that the study file names no more
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            return None
        else:
            self._undecided.append(trial.number)
            return None
        return self._kept(trial, recipe, name)

    def _moved(self, recipe: Recipe) -> Recipe:
        """The recipe on this study's corpus, which may have moved; its place is no part of what a trial is."""
        return with_values(recipe, {"data.corpus": self.space.base.data.corpus})

    def _trials(self, *states: optuna.trial.TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _sampled(trials: Iterable[FrozenTrial]) -> int:
    """Trials that count against the budget: not the baselines, nor what a crash left undecided."""
    return sum(
        BASELINE not in trial.user_attrs
        and not (
            trial.state is optuna.trial.TrialState.FAIL
            and STATE not in trial.user_attrs
            and RECIPE not in trial.user_attrs
        )
        for trial in trials
    )
