"""Trials that differ in decoding alone share one training: the later one takes the weights that the first one chose."""

from __future__ import annotations

import contextlib
import shutil

from model.recipe.recipe import Recipe
from model.weights.chosen import CHOSEN, link_chosen
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState


def find_training(ledger: Ledger, number: int, recipe: Recipe) -> int | None:
    """The complete trial that has trained the recipe already, and whose weights are there."""
    wanted = recipe.hash
    for other, record in ledger.trials.items():
        same = other != number and record.state is TrialState.COMPLETE and record.recipe_hash == wanted
        if same and (ledger.trial_folder(other) / CHOSEN).is_dir():
            return other
    return None


def must_wait(ledger: Ledger, number: int, recipe: Recipe) -> bool:
    """Whether another running trial trains the recipe now, so that this one need not."""
    wanted = recipe.hash
    in_training = any(ledger.trials[other].recipe_hash == wanted for other in ledger.trials.running if other != number)
    return in_training and find_training(ledger, number, recipe) is None


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
