"""The part of the dev sets that is scored after each epoch, where scoring all of them would take too long.

It is a property of the corpus: the same utterances in every trial and after every epoch, whatever the seeds. They are
drawn by hashes of their ids, so that no order of the corpus' files counts.

The utterance at place r of the n of a set, in the order of hashes, comes at (r + 1/2) / n, and the first one of each
set before all others. The part of N are the N that come first: each set has a share in proportion to its utterances
(as Sainte-Laguë divides seats) and at least one, and a larger part holds all of a smaller one.
"""

from __future__ import annotations

import hashlib

import numpy as np

from model.corpora.corpus import Corpus
from model.data.utterances import Utterances
from model.errors import UserError
from model.recipe.recipe import Recipe


def choose_part(dev: Utterances, count: int | None) -> Utterances:
    """So many of the utterances of the dev sets; all of them, the same object, where there are no more."""
    if count is None or count >= len(dev):
        return dev
    rows: dict[str, list[int]] = {}
    for row in range(len(dev)):
        rows.setdefault(dev.set_name(row), []).append(row)
    places = [place for name in rows for place in _place_rows(dev, rows[name])]
    return dev.select(np.array(sorted(row for _, _, row in sorted(places)[:count])))


def _place_rows(dev: Utterances, rows: list[int]) -> list[tuple[float, bytes, int]]:
    """Where each utterance of a set comes: its place within [0, 1), and its hash for those of equal places."""
    hashes = {row: hashlib.blake2b(dev.id(row).encode(), digest_size=8).digest() for row in rows}
    order = sorted(rows, key=lambda row: (hashes[row], row))
    # A set has an error rate only where a reference holds a word: the first one does, if any of the set does.
    first = next((row for row in order if dev.text(row).strip()), order[0])
    order = [first, *(row for row in order if row != first)]
    return [((place + 0.5) / len(order) if place else 0.0, hashes[row], row) for place, row in enumerate(order)]


def check_part(recipe: Recipe, corpus: Corpus) -> None:
    """A UserError where `validation.utterances` is less than one for each dev set of the corpus."""
    count, sets = recipe.validation.utterances, corpus.set_names("dev")
    if count is not None and count < len(sets):
        raise UserError(
            f"validation.utterances is {count}, but corpus {corpus.folder} has {len(sets)} dev sets, of which each "
            f"needs one; give at least {len(sets)}, or null for all utterances"
        )
