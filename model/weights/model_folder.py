"""A model folder: a trained model with all that it takes to use it, and nothing of where it was trained.

recipe.yaml        the recipe, from which it can be trained again
decoding.yaml      how it is decoded; may be edited
model.safetensors  the weights that its training chose
tokenizer.model    the SentencePiece model of its tokens
chosen.json        which epochs the weights are of, and the bound on hypotheses that was learnt with them
lm.safetensors     the language model of its decoding, where that names one
NAME.py            the module of its network, where that is the user's own and a single file

`export --format model` writes one, with a card and figures beside these files.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.errors import UserError
from model.lm.files import check_lm
from model.network.custom_source import find_source
from model.network.making import make_model, refuse_untrusted
from model.network.recogniser import Recogniser
from model.recipe.decoding import DecodingConfig
from model.recipe.files import list_paths, read_recipe, with_values
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint, make_folders, read_yaml, sync_file, to_yaml, validate, write_atomically
from model.weights.checkpoint import load_weights
from model.weights.checkpoint_files import WEIGHTS
from model.weights.chosen import CHOSEN, CHOSEN_FILE, fetch_chosen, read_chosen, read_chosen_file, refuse_removed

RECIPE, DECODING, LANGUAGE_MODEL = "recipe.yaml", "decoding.yaml", "lm.safetensors"
MODEL_FILES = (RECIPE, DECODING, WEIGHTS, TOKENIZER_FILE, CHOSEN_FILE)


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds: a recogniser in eval mode on the CPU, its tokenizer and its recipe.

    The recipe's `decoding` is that of decoding.yaml.
    """

    recipe: Recipe
    model: Recogniser
    tokenizer: Tokenizer

    @property
    def decoding(self) -> DecodingConfig:
        return self.recipe.decoding


def is_model_folder(folder: Path) -> bool:
    """Whether a folder is a model folder, and not that of a run or of a published checkpoint."""
    return all((folder / name).is_file() for name in (DECODING, WEIGHTS, CHOSEN_FILE))


def write_model_folder(run: Path, recipe: Recipe, out: Path) -> None:
    """Write the weights that a run or a trial chose, its tokenizer, and its recipe with its decoding to `out`.

    Paths in the recipe become relative to `out`. A UserError where the run has chosen no weights yet, has no tokenizer
    in its folder, or where `out` holds something else than a model folder.
    """
    refuse_removed(run)
    chosen = read_chosen(run)
    if chosen is None:
        raise UserError(f"{run}: has chosen no weights yet; let its training come to its end, or give another trial")
    if not (run / TOKENIZER_FILE).is_file():
        raise UserError(f"{run}: has no {TOKENIZER_FILE} in it, as in versions before 0.2; train it again")
    refuse_other_folder(out)
    if recipe.decoding.lm is not None:
        _copy_language_model(recipe, run, out)
    if is_copied(recipe):
        source = find_source(recipe.custom_model)
        write_atomically(out / source.name, source.read_bytes())
    relative = make_relative(recipe, out)
    write_atomically(out / RECIPE, to_yaml(relative))
    write_atomically(out / DECODING, to_yaml(relative.decoding))
    write_atomically(out / TOKENIZER_FILE, (run / TOKENIZER_FILE).read_bytes())
    _copy(fetch_chosen(run) / WEIGHTS, out / WEIGHTS)
    write_atomically(out / CHOSEN_FILE, (run / CHOSEN / CHOSEN_FILE).read_bytes())  # last: it makes a model folder


def is_copied(recipe: Recipe) -> bool:
    """Whether the module of the recipe's own network goes with its weights: where it is a file, and no package."""
    custom = recipe.custom_model
    return custom.fingerprint is not None and find_source(custom).name == f"{custom.module}.py"


def refuse_other_folder(out: Path) -> None:
    """A UserError where a model folder cannot be written to `out` without mixing it with other files."""
    is_free = not out.exists() or (out.is_dir() and (is_model_folder(out) or not any(out.iterdir())))
    if not is_free:
        raise UserError(f"{out}: exists, and is neither an empty folder nor a model folder; give another one")


def make_relative(recipe: Recipe, out: Path) -> Recipe:
    """The recipe with its paths relative to a folder, so that it names no place of this machine; its hash stays."""
    paths = {"data.corpus": recipe.data.corpus} | list_paths(recipe)
    folder = out.resolve()
    values = {key: os.path.relpath(Path(path).resolve(), folder) for key, path in paths.items()}
    if is_copied(recipe):
        values["custom_model.path"] = "."
    values |= {key: LANGUAGE_MODEL for key, path in paths.items() if key.endswith(".lm") and path == recipe.decoding.lm}
    if recipe.tokenizer.fingerprint is not None:  # then the path does not count, and the folder has the file
        values["tokenizer.file"] = TOKENIZER_FILE
    return with_values(recipe, values)


def _copy_language_model(recipe: Recipe, run: Path, out: Path) -> None:
    """Copy the language model of a recipe's decoding, where it is that of the recipe and fits the run's tokenizer."""
    source, target = Path(recipe.decoding.lm or ""), out / LANGUAGE_MODEL
    check_lm(source, Tokenizer(run / TOKENIZER_FILE), recipe.decoding.lm_fingerprint)
    make_folders(out)
    if source.resolve() != target.resolve():  # a model folder that is written over itself has it
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, draft)
        sync_file(draft)
        os.replace(draft, target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(f"{target}: cannot be written ({error.strerror}); give a place that can be") from error


def read_folder_recipe(folder: Path) -> Recipe:
    """The recipe in a model folder, decoded as its decoding.yaml has it, with absolute paths."""
    decoding = validate(DecodingConfig, read_yaml(folder / DECODING), str(folder / DECODING))
    content = decoding.model_dump(mode="json")
    if decoding.lm is not None:
        content["lm"] = str((folder / decoding.lm).resolve())
    return with_values(read_recipe(folder / RECIPE), {"decoding": content}, str(folder))


def load_model_folder(folder: str | Path, trust_code: bool = False) -> ModelFolder:
    """The model in a model folder. Raises a UserError where a file is missing, damaged or does not fit the recipe.

    Neither a corpus nor a study is needed. Of a network of a user's own, Python code is run, with `trust_code` alone.
    """
    folder = Path(folder)
    if not is_model_folder(folder):
        raise UserError(
            f"{folder}: is no model folder ({', '.join(MODEL_FILES)}); give one, as `decred-study export STUDY --best "
            "DIR` writes it"
        )
    recipe = read_folder_recipe(folder)
    refuse_untrusted(recipe, folder, trust_code)
    model = make_model(recipe)
    load_weights(folder, model)
    model.tokens_per_second = read_chosen_file(folder / CHOSEN_FILE).tokens_per_second
    return ModelFolder(recipe, model.eval(), _load_tokenizer(folder / TOKENIZER_FILE, recipe))


def _load_tokenizer(path: Path, recipe: Recipe) -> Tokenizer:
    expected, actual = recipe.tokenizer.fingerprint, file_fingerprint(path, "copy the whole model folder again")
    if expected not in (None, actual):
        raise UserError(
            f"{path}: its content is {actual[:12]}, but the recipe was made for {expected}; copy the model folder again"
        )
    tokenizer = Tokenizer(path)
    tokenizer.check(recipe.tokenizer)
    return tokenizer
