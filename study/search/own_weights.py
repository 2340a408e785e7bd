"""Weights of a study's own trials, which its other trials start from, however the path to them was recorded.

A command between two sessions is recorded on any machine that sees the study's folder, and that machine may have the
storage mounted elsewhere. The end of a trial's path, from the study's folder on, is the same on all machines.
"""

from __future__ import annotations

import os
from pathlib import Path

from model.recipe.recipe import Recipe

TRIALS = "trials"  # the folder in a study's own that has a folder for each trial


def find_own_trial(source: str, folder: Path) -> int | None:
    """The number of the trial that a path belongs to, by the path of the study's `folder` here or on another machine;
    None where it belongs to none."""
    path, trials = Path(source), folder.resolve() / TRIALS
    if path.resolve().is_relative_to(trials):
        first = path.resolve().relative_to(trials).parts[:1]
    else:
        first = path.parts[-1:] if path.parts[-3:-1] == (folder.name, TRIALS) else ()
    return int(first[0]) if first and first[0].isdecimal() else None


def find_weights_here(recipe: Recipe, base: Recipe, folder: Path) -> str | None:
    """The recipe's `init_from`, on this machine: the trial's folder in the study's `folder`, where there is nothing at
    the path that was recorded.

    The weights' hash stands for them in the recipe's. What the `base` recipe starts from is no trial of this study's.
    """
    source = recipe.init_from
    if source is None or recipe.init_fingerprint in (None, base.init_fingerprint) or os.path.exists(source):
        return source
    number = find_own_trial(source, folder)
    own = folder / TRIALS / f"{number or 0:04d}"
    return source if number is None or not own.is_dir() else str(own)
