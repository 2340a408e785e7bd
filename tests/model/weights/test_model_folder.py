"""A model folder gives back what the run decodes, without its corpus, and refuses what does not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from training_runs import read_chosen_weights, without_clock

import model
from model.commands.evaluate import score_run
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.files import read_recipe, with_values
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.weights.found_decoding import with_found_decoding
from model.weights.import_export import export_published
from model.weights.initial import read_weights
from model.weights.model_folder import MODEL_FILES, load_model_folder, read_folder_recipe, write_model_folder

TRAINED = {"training.epochs": 2, "optimiser.learning_rate": 1e-2, "decoding_search.share": 0.5}


@pytest.fixture(scope="module")
def run(make_recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run whose decoding was searched."""
    folder = tmp_path_factory.mktemp("folder") / "run"
    train(make_recipe(TRAINED), folder, lambda metrics: None)
    return folder


@pytest.fixture(scope="module")
def recipe(run: Path) -> Recipe:
    return with_found_decoding(read_recipe(run / "recipe.yaml"), run)


@pytest.fixture
def folder(run: Path, recipe: Recipe, tmp_path: Path) -> Path:
    write_model_folder(run, recipe, tmp_path / "model")
    return tmp_path / "model"


def test_it_decodes_as_its_run_does(run: Path, recipe: Recipe, folder: Path, corpus: Corpus) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(MODEL_FILES)
    trained, loaded = model.load_run(run), model.load_run(folder)
    paths = [entry.audio.file for entry in corpus.entries("dev")]
    assert model.decode(loaded, paths) == model.decode(trained, paths)
    texts = corpus.texts("dev")
    assert model.perplexities(loaded, texts) == model.perplexities(trained, texts)
    assert loaded.model.tokens_per_second == trained.model.tokens_per_second is not None
    assert loaded.recipe == trained.recipe == recipe
    given = load_model_folder(folder)
    assert (given.recipe, given.decoding) == (recipe, recipe.decoding)
    assert given.tokenizer.content == (run / "tokenizer.model").read_bytes()
    assert all(value.equal(given.model.state_dict()[name]) for name, value in read_chosen_weights(run).items())


def test_it_is_evaluated_as_its_run_is_on_any_corpus(run: Path, folder: Path, corpus: Corpus) -> None:
    ours, theirs = (without_clock(score_run(place, corpus=corpus.folder)) for place in (folder, run))
    assert ours == theirs
    assert {"dev/wer", "test/test-in/wer"} <= ours.keys()
    assert (folder / "evaluation" / "test-in.jsonl").is_file()
    write_model_folder(run, model.load_run(run).recipe, folder)  # what was evaluated stays beside it


def test_its_recipe_is_the_same_training_and_names_no_place(recipe: Recipe, folder: Path) -> None:
    text = (folder / "recipe.yaml").read_text()
    assert str(Path(recipe.data.corpus).parent) not in text
    assert read_recipe(folder / "recipe.yaml") == recipe
    assert read_recipe(folder / "recipe.yaml").hash == recipe.hash


def test_a_tokenizer_of_its_own_is_that_of_the_folder(run: Path, recipe: Recipe, tmp_path: Path) -> None:
    shutil.copyfile(run / "tokenizer.model", tmp_path / "own.model")
    fingerprint = "0123456789abcdef"
    with_file = with_values(
        recipe, {"tokenizer.file": str(tmp_path / "own.model"), "tokenizer.fingerprint": fingerprint}
    )
    write_model_folder(run, with_file, tmp_path / "model")
    (tmp_path / "own.model").unlink()
    found = read_folder_recipe(tmp_path / "model")
    assert found.tokenizer.file == str(tmp_path / "model" / "tokenizer.model")
    assert found.hash == with_file.hash
    with pytest.raises(UserError, match=f"but the recipe was made for {fingerprint}; copy the model folder again"):
        load_model_folder(tmp_path / "model")


def test_it_can_be_moved_and_needs_no_corpus(folder: Path, tmp_path: Path) -> None:
    expected = model.perplexities(model.load_run(folder), ["turn the light on"])
    shutil.move(folder, tmp_path / "elsewhere" / "deep" / "moved")
    moved = tmp_path / "elsewhere" / "deep" / "moved"
    assert not Path(read_recipe(moved / "recipe.yaml").data.corpus).exists()
    assert model.perplexities(model.load_run(moved), ["turn the light on"]) == expected


def test_a_decoding_that_was_edited_is_used(folder: Path) -> None:
    decoding = yaml.safe_load((folder / "decoding.yaml").read_text())
    (folder / "decoding.yaml").write_text(yaml.safe_dump(decoding | {"beam": 3, "ctc_weight": 0.7}))
    found = model.load_run(folder).recipe.decoding
    assert (found.beam, found.ctc_weight) == (3, 0.7)
    (folder / "decoding.yaml").write_text("beem: 3\n")
    with pytest.raises(UserError, match="unknown key 'beem'; did you mean 'beam'"):
        model.load_run(folder)


def test_trainings_start_from_it_and_the_published_layout_takes_it(run: Path, folder: Path, tmp_path: Path) -> None:
    assert all(value.equal(read_weights(run).state[name]) for name, value in read_weights(folder).state.items())
    export_published(folder, tmp_path / "published")
    published = model.load_pretrained(tmp_path / "published")
    ours = model.load_run(folder)
    assert published.tokenizer is not None
    ids = torch.tensor([[1, 5, 6]])
    assert torch.allclose(
        published.model.decoder.final_logits(ids, None), ours.model.decoder.final_logits(ids, None), atol=1e-5
    )


def test_it_is_written_over_another_model_folder_and_over_nothing_else(
    run: Path, recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    write_model_folder(run, recipe, folder)
    other = tmp_path / "project"
    other.mkdir()
    write_model_folder(run, recipe, other)
    shutil.rmtree(other)
    other.mkdir()
    (other / "README.md").write_text("mine")
    with pytest.raises(UserError, match="project: exists, and is neither an empty folder nor a model folder"):
        write_model_folder(run, recipe, other)
    assert [path.name for path in other.iterdir()] == ["README.md"]


def test_a_training_that_has_not_ended_is_not_written(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="run: has chosen no weights yet; let its training come to its end"):
        write_model_folder(tmp_path / "run", recipe, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(UserError, match="run: is no model folder"):
        load_model_folder(tmp_path / "run")


def test_what_is_damaged_is_named(folder: Path) -> None:
    chosen = json.loads((folder / "chosen.json").read_text())
    (folder / "chosen.json").write_text("{")
    with pytest.raises(UserError, match=r"chosen.json: is damaged"):
        load_model_folder(folder)
    (folder / "chosen.json").write_text(json.dumps(chosen))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-4])
    with pytest.raises(UserError, match=r"model.safetensors: does not fit the recipe"):
        load_model_folder(folder)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"(model.safetensors|tokenizer.model): "):
        load_model_folder(folder)
