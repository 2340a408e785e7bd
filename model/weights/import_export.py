"""Import of a published checkpoint as a recipe, and export of a run or a trial in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.errors import UserError
from model.network.making import refuse_custom
from model.network.recogniser import Recogniser
from model.recipe.files import with_values
from model.recipe.initialisation import InitialisationConfig
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint, to_yaml, write_atomically
from model.weights.initial import find_weights_file, fingerprint_weights, read_weights
from model.weights.model_folder import is_model_folder
from model.weights.published.checkpoint import CONFIG, load_pretrained, save_pretrained


def import_published(folder: Path, corpus: str, out: Path, tokenizer: Path | None = None) -> Recipe:
    """Write to `out` a recipe whose training starts from the weights of a published checkpoint; returns the recipe.

    `corpus` is written as given: in a recipe file it is relative to the file. `tokenizer` is the SentencePiece model
    that the checkpoint was trained with; without it the recipe trains a new one. Both are loaded, so that a checkpoint
    or tokenizer that does not fit is a UserError now and not in the first trial.
    """
    model = load_pretrained(folder)
    values: dict[str, Any] = {
        "data.corpus": corpus,
        "init_from": str(folder.resolve()),
        "init_fingerprint": fingerprint_weights(folder),
    }
    values |= generation_values(model)
    if tokenizer is not None:
        Tokenizer(tokenizer).check(model.recipe.tokenizer)
        values |= {
            "tokenizer.file": str(tokenizer.resolve()),
            "tokenizer.fingerprint": file_fingerprint(tokenizer),
        }
    recipe = with_values(model.recipe, values, str(folder))
    write_atomically(out, to_yaml(recipe))
    return recipe


def generation_values(model: Recogniser) -> dict[str, Any]:
    """The recipe keys of decoding that a published checkpoint's generation_config.json sets; none without the file."""
    if model.origin is None or not model.origin.generation:
        return {}
    generation = model.origin.generation
    return {
        "decoding.beam": generation.get("num_beams") or 1,
        "decoding.ctc_weight": generation.get("ctc_weight") or 0.0,
        "decoding.length_penalty": generation.get("length_penalty", 1.0),
    }


def export_published(run: Path, out: Path) -> Recipe:
    """Write the weights of a run's or a trial's folder to `out`, in the published layout.

    The run's tokenizer goes with it, as tokenizer.model; runs of older versions have none in their folder.
    """
    if find_weights_file(run).parent == run and not is_model_folder(run):
        raise UserError(f"{run}: is in the published layout already; give the folder of a run or of a trial")
    source = read_weights(run)
    refuse_custom(source.recipe, "the published layout", "export it as a model folder")
    model = Recogniser(source.recipe)
    model.load_state_dict(source.state)
    init_from = Path(source.recipe.init_from or "")
    is_same_model = source.recipe.init_from and source.recipe.initialisation == InitialisationConfig()
    if is_same_model and (init_from / CONFIG).is_file():
        model.origin = load_pretrained(init_from).origin  # config keys that no recipe has are written out again
    save_pretrained(model, out)
    if (run / TOKENIZER_FILE).is_file():
        write_atomically(out / TOKENIZER_FILE, (run / TOKENIZER_FILE).read_bytes())
    return source.recipe
