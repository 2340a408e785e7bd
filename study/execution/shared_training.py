"""Trials that differ in decoding alone share one training: the later one takes the weights that the first one chose."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable

from model.recipe.recipe import Recipe
from model.weights.chosen import CHOSEN, link_chosen
from study.execution.agenda import LONGEST_DELAY
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

ASK_SECONDS = 1.0  # between two proposals while nothing happens: a sampler takes its time for each


class SharedTrainings:
    """What keeps a recipe from being trained twice: a trial waits while another one trains its recipe."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._retried: dict[int, float] = {}  # when a trial failed that is tried again
        self._waited: tuple[int, float] | None = None  # how many events there were as one had to wait last, and when

    def note_retry(self, number: int) -> None:
        """A trial has failed and will be tried again, a while later."""
        self._retried[number] = self._clock()

    def note_wait(self) -> None:
        """A proposal has to wait."""
        self._waited = self._ledger.trials.applied, self._clock()

    def is_waiting(self) -> bool:
        """Whether a proposal had to wait a moment ago, and nothing has happened since."""
        if self._waited is None:
            return False
        applied, time_ = self._waited
        return applied == self._ledger.trials.applied and self._clock() < time_ + ASK_SECONDS

    def find_other(self, number: int, recipe: Recipe) -> int | None:
        """The trial that trains the recipe of this one now, or will soon go on with it; None where this one need not
        wait."""
        trials, wanted = self._ledger.trials, recipe.hash
        others = [*trials.running, *(other for other in self._retried if self._goes_first(other, number))]
        found = next((other for other in others if other != number and trials[other].recipe_hash == wanted), None)
        return found if found is not None and find_training(self._ledger, number, recipe) is None else None

    def _goes_first(self, other: int, number: int) -> bool:
        """Whether another trial will be tried again before this one may start: it has trained more, or came first.

        Once it is due the agenda gives it before any new one, unless the budget or the nodes have no room for it. So
        after the longest delay nothing waits for it any more.
        """
        trials = self._ledger.trials
        record = trials[other]
        if record.state is not TrialState.INTERRUPTED or other in trials.steering.held:
            return False
        if self._clock() >= self._retried[other] + LONGEST_DELAY:
            return False
        trained = trials[number].epoch if number in trials else 0
        return (-record.epoch, other) < (-trained, number)


def find_training(ledger: Ledger, number: int, recipe: Recipe) -> int | None:
    """The complete trial that has trained the recipe already, and whose weights are there."""
    wanted = recipe.hash
    for other, record in ledger.trials.items():
        same = other != number and record.state is TrialState.COMPLETE and record.recipe_hash == wanted
        if same and (ledger.trial_folder(other) / CHOSEN).is_dir():
            return other
    return None


def share_training(ledger: Ledger, source: int, number: int) -> None:
    """Give a trial the weights and the tokenizer of another one; it is scored then, and not trained.

    What the training started from, where it took other weights, goes with them.
    """
    from model.data.tokenizer import TOKENIZER_FILE
    from model.weights.taken_weights import INITIALISATION_FILE

    folder = ledger.trial_folder(number)
    link_chosen(ledger.trial_folder(source), folder)
    for name in (TOKENIZER_FILE, INITIALISATION_FILE):
        with contextlib.suppress(FileNotFoundError):  # a run of a version before 0.2 has no tokenizer
            shutil.copyfile(ledger.trial_folder(source) / name, folder / name)
