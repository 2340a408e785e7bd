from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.data.tokenizer import train_tokenizer
from model.errors import UserError
from model.network.recogniser import Recogniser
from model.recipe.architecture import TokenizerConfig
from model.recipe.files import read_recipe, with_values
from model.runtime.distributed import DistributedContext
from model.training.loop import start_or_resume, train
from model.training.prepare import prepare
from model.weights import checkpoint, checkpoint_files
from model.weights.import_export import export_published, import_published
from model.weights.initial import load_initial_weights
from model.weights.published.checkpoint import load_pretrained, save_pretrained

ALONE = DistributedContext(0, 1, torch.device("cpu"))
BOTH = {"loss.auxiliary": {"placement": [1, 3], "weights": [0.3, 0.2]}}
IN_LAYOUT = {"encoder.padding": "published", "tokenizer.special.blank": 3}


@pytest.fixture
def checkpoint_folder(make_recipe, tmp_path: Path) -> Path:
    """A published checkpoint in the tests' miniature size, with classifiers on layers 1 and 3."""
    torch.manual_seed(7)
    save_pretrained(Recogniser(make_recipe(BOTH | IN_LAYOUT)), tmp_path / "published")
    return tmp_path / "published"


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_fresh_run_starts_from_published_weights(make_recipe, checkpoint_folder: Path, run_folder: Path) -> None:
    run = start_or_resume(make_recipe(BOTH | IN_LAYOUT | {"init_from": str(checkpoint_folder)}), run_folder, ALONE)
    assert equal(run.model.state_dict(), load_pretrained(checkpoint_folder).state_dict())


def test_classifiers_are_matched_by_layer_and_new_ones_start_fresh(make_recipe, checkpoint_folder: Path) -> None:
    other = {"loss.auxiliary": {"placement": [2, 3], "weights": [0.3, 0.2]}, "init_from": str(checkpoint_folder)}
    model = Recogniser(make_recipe(IN_LAYOUT | other))
    fresh = model.decoder.auxiliary[0].weight.clone()
    load_initial_weights(model)
    source = load_pretrained(checkpoint_folder)
    assert torch.equal(model.decoder.auxiliary[1].weight, source.decoder.auxiliary[1].weight)
    assert torch.equal(model.decoder.auxiliary[0].weight, fresh)
    assert torch.equal(model.decoder.final.weight, source.decoder.final.weight)


def test_a_run_resumes_from_its_own_checkpoint_and_another_starts_from_it(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe({"training.epochs": 1})
    train(recipe, tmp_path / "first", lambda _: None)
    first = Recogniser(recipe)
    latest = checkpoint_files.latest_checkpoint(tmp_path / "first" / "checkpoints")
    assert latest is not None
    checkpoint.load_weights(latest, first)
    adapted = prepare(make_recipe({"init_from": str(tmp_path / "first"), "training.epochs": 1, "training.seed": 5}))
    second = start_or_resume(adapted, tmp_path / "second", ALONE)
    assert equal(second.model.state_dict(), first.state_dict())
    train(adapted, tmp_path / "second", lambda _: None)
    resumed = start_or_resume(adapted, tmp_path / "second", ALONE)
    assert resumed.state.epoch == 1
    assert not equal(resumed.model.state_dict(), first.state_dict())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"decoder.feed_forward": 24},
            "tensor 'decoder.layers.0.feed_forward.0.weight' has shape (16, 16), but the recipe's model needs "
            "(24, 16); give the recipe the sizes of these weights",
        ),
        ({"encoder.layers": 2}, "holds no tensor 'encoder.layers.1."),
        (
            {"decoder.layers": 3, "loss.auxiliary": {"placement": [1], "weights": [0.3]}},
            "has no place for tensor 'decod",
        ),
        ({"decoder.heads": 4}, "was trained with decoder.heads 2, but the recipe has 4; set it to 2"),
        ({"tokenizer.special.pad": 9}, "was trained with tokenizer.special.pad 3, but the recipe has 9; set it to 3"),
        ({"init_fingerprint": "abc"}, "but the recipe was made for abc; give the original weights, or set init_finger"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    make_recipe, checkpoint_folder: Path, values: dict[str, Any], message: str
) -> None:
    model = Recogniser(make_recipe(BOTH | IN_LAYOUT | {"init_from": str(checkpoint_folder)} | values))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_initial_weights(model)
    assert str(caught.value).startswith(f"init_from {checkpoint_folder}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_refused(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds neither a published checkpoint .+ nor a run with a checkpoint; give the"
    ):
        prepare(make_recipe({"init_from": str(tmp_path)}))


def test_an_imported_checkpoint_is_a_recipe_that_trains_and_is_exported_again(
    corpus, checkpoint_folder: Path, tmp_path: Path
) -> None:
    config = checkpoint_folder / "config.json"
    config.write_text(config.read_text().replace('"layerdrop": 0.0', '"layerdrop": 0.25'))
    import_published(checkpoint_folder, str(corpus.folder), tmp_path / "recipe.yaml")
    recipe = prepare(read_recipe(tmp_path / "recipe.yaml"))
    recipe = with_values(recipe, {"training.epochs": 1, "data.batch_seconds": 12.0})
    train(recipe, tmp_path / "run", lambda _: None)
    export_published(tmp_path / "run", tmp_path / "out")
    back = load_pretrained(tmp_path / "out")
    assert '"layerdrop": 0.25' in (tmp_path / "out" / "config.json").read_text()
    resumed = start_or_resume(recipe, tmp_path / "run", ALONE)
    assert equal(back.state_dict(), resumed.model.state_dict())
    with pytest.raises(UserError, match="is in the published layout already; give the folder of a run or of a trial"):
        export_published(tmp_path / "out", tmp_path / "again")


def test_import_takes_decoding_from_the_generation_config(golden: Path, tmp_path: Path) -> None:
    recipe = import_published(golden / "reguler_two_aux", "corpus", tmp_path / "recipe.yaml")
    assert (recipe.decoding.beam, recipe.decoding.ctc_weight) == (4, 0.3)
    assert recipe.decoding.length_penalty == 1.0
    assert recipe.loss.auxiliary.placement == (1, 3)
    assert recipe.init_from == str(golden / "reguler_two_aux")


def test_import_takes_the_tokenizer_that_the_checkpoint_was_trained_with(
    golden: Path, made_up_text, tmp_path: Path
) -> None:
    pieces, texts = tmp_path / "pieces.model", made_up_text(1)
    special = import_published(golden / "reguler_two_aux", "corpus", tmp_path / "recipe.yaml").tokenizer.special
    train_tokenizer(texts, TokenizerConfig(vocabulary=100, special=special), pieces)
    recipe = import_published(golden / "reguler_two_aux", "corpus", tmp_path / "recipe.yaml", pieces)
    assert recipe.tokenizer.file == str(pieces)
    assert read_recipe(tmp_path / "recipe.yaml").hash == recipe.hash
    train_tokenizer(texts, TokenizerConfig(vocabulary=100), pieces)
    with pytest.raises(UserError, match=r"its special.pad is 3, but the recipe's tokenizer\.special\.pad is 99"):
        import_published(golden / "reguler_two_aux", "corpus", tmp_path / "other.yaml", pieces)
