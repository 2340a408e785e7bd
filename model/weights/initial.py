"""Weights to start from: a published checkpoint, or those of a run, of a trial or of a model folder.

A recipe's `initialisation` says what is taken of them, all by default, and `matching` finds the tensors. Auxiliary
classifiers are matched by the layer they are on, and a classifier that the source lacks starts fresh. Anything else
that does not fit is refused by name, unless the recipe lets it start fresh.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.errors import UserError
from model.network.making import make_model
from model.network.recogniser import Recogniser
from model.recipe.files import read_recipe
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from model.weights import checkpoint, checkpoint_files
from model.weights.chosen import find_run_weights
from model.weights.found_decoding import with_found_decoding
from model.weights.matching import Tensors, find_vocabulary, list_tensors, match_tensors, name_tensors
from model.weights.model_folder import is_model_folder, load_model_folder, read_folder_recipe
from model.weights.piece_rows import Rows, Vocabulary, copy_rows, match_rows
from model.weights.published.checkpoint import CONFIG, WEIGHTS, load_pretrained
from model.weights.taken_weights import TakenWeights, TensorNote


@dataclass(frozen=True)
class WeightSource:
    """Weights and the recipe that they were trained with; `state` is a state dict of that recipe's model."""

    recipe: Recipe
    state: dict[str, Tensor]


def find_weights_file(folder: Path) -> Path:
    """The weights file of a published checkpoint, of a model folder or of a run; a UserError where there is none."""
    if (folder / CONFIG).is_file() or is_model_folder(folder):
        return folder / WEIGHTS
    place = find_run_weights(folder)
    if place is None:
        raise UserError(
            f"{folder}: holds neither a published checkpoint ({CONFIG} and {WEIGHTS}) nor a run with a checkpoint; "
            "give the folder of one"
        )
    return place / checkpoint_files.WEIGHTS


def fingerprint_weights(folder: Path) -> str:
    """Content hash of a folder's weights: 16 hex digits of SHA-256."""
    return file_fingerprint(find_weights_file(folder), "give the folder of a checkpoint")


def read_weights(folder: Path) -> WeightSource:
    """The weights in a folder and the recipe that they were trained with."""
    if is_model_folder(folder):
        found = load_model_folder(folder, trust_code=True)  # the recipe, which the user wrote, names the folder
        return WeightSource(found.recipe, found.model.state_dict())
    path = find_weights_file(folder)
    if path.parent == folder:
        model = load_pretrained(folder)
        return WeightSource(model.recipe, model.state_dict())
    recipe = with_found_decoding(read_recipe(folder / "recipe.yaml"), folder)
    model = make_model(recipe)
    checkpoint.load_weights(path.parent, model)
    return WeightSource(recipe, model.state_dict())


def _read_recipe(folder: Path) -> Recipe:
    """The recipe that the weights in a folder were trained with; their file is there, as `find_weights_file` checks."""
    if is_model_folder(folder):
        return read_folder_recipe(folder)
    return load_pretrained(folder).recipe if (folder / CONFIG).is_file() else read_recipe(folder / "recipe.yaml")


def load_initial_weights(model: Recogniser, tokenizer: Tokenizer | None = None) -> TakenWeights | None:
    """Load what the recipe's `initialisation` takes from `init_from` into the model; None where it has no `init_from`.

    `tokenizer` is the model's; rows are matched by piece with it. Weights that do not fit, and an `initialisation` that
    names nothing of them, are a UserError.
    """
    recipe = model.recipe
    if recipe.init_from is None:
        return None
    fingerprint, source = _check_fingerprint(recipe), read_weights(Path(recipe.init_from))
    found = FoundWeights(Path(recipe.init_from), fingerprint, list_tensors(source.recipe))
    match = _Match(list_tensors(recipe, model), found, tokenizer)
    state, own = model.state_dict(), name_tensors(model.state_dict(), recipe.loss.auxiliary.placement)
    given = name_tensors(source.state, source.recipe.loss.auxiliary.placement)
    for name, other in match.tensors.taken.items():
        rows, value = match.find_rows(name), source.state[given[other]]
        state[own[name]] = value if rows is None else copy_rows(state[own[name]], value, rows)
    model.load_state_dict(state)
    return match.describe()


@dataclass(frozen=True)
class FoundWeights:
    """The weights in a folder, without their values."""

    folder: Path
    fingerprint: str
    tensors: Tensors


def find_initial_weights(recipe: Recipe) -> FoundWeights | None:
    """The weights in the recipe's `init_from`; a UserError where they are not what it wants.

    None where it names none, or where they are gone whose hash it has: what was trained from them can go on.
    """
    if recipe.init_from is None or (recipe.init_fingerprint is not None and not Path(recipe.init_from).exists()):
        return None
    folder, fingerprint = Path(recipe.init_from), _check_fingerprint(recipe)
    return FoundWeights(folder, fingerprint, list_tensors(_read_recipe(folder)))


def check_initial_weights(recipe: Recipe, found: FoundWeights, tokenizer: Tokenizer | None = None) -> TakenWeights:
    """What a training of the recipe would take of the weights, or the UserError of `load_initial_weights`.

    Without `tokenizer`, which may not be trained yet, it is not known which rows are taken by piece.
    """
    return _Match(list_tensors(recipe), found, tokenizer).describe()


def _check_fingerprint(recipe: Recipe) -> str:
    """The hash of the weights in `init_from`; a UserError where the recipe was made for others."""
    found, wanted = fingerprint_weights(Path(recipe.init_from or "")), recipe.init_fingerprint
    if wanted is not None and found != wanted:
        raise UserError(
            f"init_from {recipe.init_from}: its weights are {found}, but the recipe was made for {wanted}; give the "
            "original weights, or set init_fingerprint to null to start from these"
        )
    return found


class _Match:
    """Which tensors of the weights in a folder become ours, and which of their rows."""

    def __init__(self, ours: Tensors, found: FoundWeights, tokenizer: Tokenizer | None) -> None:
        self.ours, self.found = ours, found
        self.tensors = match_tensors(ours, found.tensors, f"init_from {found.folder}")
        self.rows: dict[str, Rows] = {}
        self.same_ids: int | None = None
        if not any(find_vocabulary(name) for name in self.tensors.taken):
            return
        by_piece = ours.recipe.initialisation.vocabulary == "by_piece"
        with contextlib.nullcontext() if by_piece else contextlib.suppress(UserError):  # else no piece need be known
            there = self._read_vocabulary()
            if tokenizer is not None:
                rows = match_rows(Vocabulary(tokenizer.pieces, ours.recipe.tokenizer.special), there)
                self.rows = rows if by_piece else {}
                self.same_ids = sum(token == other for token, other in rows["tokens"].items())

    def _read_vocabulary(self) -> Vocabulary:
        path, expected = self.found.folder / TOKENIZER_FILE, self.found.tensors.recipe.tokenizer
        if not path.is_file():
            raise UserError(
                f"init_from {self.found.folder}: has no {TOKENIZER_FILE}, so that rows cannot be taken by piece; put "
                "the tokenizer there that the weights were trained with, or set initialisation.vocabulary to leave"
            )
        tokenizer = Tokenizer(path)
        tokenizer.check(expected)
        return Vocabulary(tokenizer.pieces, expected.special)

    def find_rows(self, name: str) -> Rows | None:
        """Which rows of a taken tensor are taken; None for all."""
        return self.rows.get(find_vocabulary(name) or "")

    def describe(self) -> TakenWeights:
        """What is taken, for users."""
        tensors, here, there = self.tensors, self.ours.shapes, self.found.tensors.shapes
        rows = {name: self.find_rows(name) for name in tensors.taken}
        counts = {name: None if matched is None else len(matched) for name, matched in rows.items()}
        return TakenWeights(
            init_from=str(self.found.folder),
            fingerprint=self.found.fingerprint,
            taken=tuple(TensorNote(name, here[name], other, counts[name]) for name, other in tensors.taken.items()),
            fresh=tuple(TensorNote(name, here[name], reason=reason) for name, reason in tensors.fresh.items()),
            unused=tuple(TensorNote(name, there[name]) for name in tensors.unused),
            vocabulary=self.ours.recipe.tokenizer.vocabulary,
            same_ids=self.same_ids,
        )
