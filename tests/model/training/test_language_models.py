"""A model that is trained, decoded with a language model, exported with it, and used from there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from training_runs import ALONE, without_clock

import model as api
from model.commands.evaluate import score_run
from model.corpora.corpus import Corpus
from model.data.recipe_inputs import load_tokenizer
from model.errors import UserError
from model.lm.building import build_ngram, encode_text, read_corpus_sentences
from model.lm.files import save_lm
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from model.training.ending import read_finished, score_chosen
from model.training.loop import train
from model.training.prepare import prepare
from model.training.run import load_scored_run
from model.weights.found_decoding import read_found
from model.weights.import_export import export_published
from model.weights.model_folder import LANGUAGE_MODEL, load_model_folder, write_model_folder

TRAINED = {"training.epochs": 2, "optimiser.learning_rate": 1e-2, "decoding.beam": 2, "validation.ctc_weight": 0.0}
FUSED = {"decoding.lm_weight": 0.5, "decoding.ilm_weight": 0.2, "decoding.ilm_estimator": "zeroed"}


@pytest.fixture(scope="module")
def lm(make_recipe, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3-gram model of the dev text, which the trained model has not seen."""
    tokenizer = load_tokenizer(make_recipe(), corpus)
    text = encode_text(read_corpus_sentences(corpus, "dev"), tokenizer)
    path = tmp_path_factory.mktemp("lm") / "mine.safetensors"
    save_lm(path, *build_ngram(text, text, tokenizer, 0, 3))
    return path


@pytest.fixture(scope="module")
def recipe(make_recipe, lm: Path) -> Recipe:
    return prepare(make_recipe(TRAINED | FUSED | {"decoding.lm": str(lm)}))


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused") / "run"
    train(recipe, folder, lambda metrics: None)
    return folder


def test_preparation_notes_its_content_and_refuses_one_that_could_not_be_used_in_the_end(
    recipe: Recipe, lm: Path, make_recipe, tmp_path: Path
) -> None:
    assert recipe.decoding.lm_fingerprint == file_fingerprint(lm)
    with pytest.raises(UserError, match=r"nowhere: there is no such language model; make one with `lm`"):
        prepare(with_values(recipe, {"decoding.lm": str(tmp_path / "nowhere")}))
    with pytest.raises(UserError, match=r"was made for the tokenizer \w{16}, but that of the model is"):
        prepare(make_recipe({"decoding.lm": str(lm), "tokenizer.vocabulary": 36}))
    with pytest.raises(UserError, match=r"was made for the tokenizer \w{16}, but that of the model is"):
        prepare(make_recipe({"test_decoding": {"lm": str(lm)}, "tokenizer.vocabulary": 36}))


def test_the_weights_are_found_and_reported_on_the_dev_sets(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    settings = {"share": 0.5, "ctc_weight": [], "beam": [], "length_penalty": [], "lm_weight": [0.3, 1.0]}
    plain = {"decoding.lm_weight": 0.0, "decoding.ilm_weight": 0.0, "decoding.beam": 1}
    searched = with_values(recipe, plain | {"decoding_search": settings | {"ilm_weight": [0.1]}})
    chosen = read_finished(searched, folder, ALONE)
    assert chosen is not None
    scored = load_scored_run(searched, folder, ALONE)
    metrics = score_chosen(scored, replace(chosen, seconds=1000.0), score_tests=False)  # there is time for all
    found = read_found(folder)
    assert found is not None
    assert found.answers(searched)
    assert not found.answers(with_values(searched, {"decoding_search.lm_weight": [0.3]}))
    assert metrics["decoding/lm_weight"] == found.decoding["lm_weight"]
    assert metrics["decoding/ilm_weight"] == found.decoding["ilm_weight"]
    assert len(found.tried) == 6
    assert api.load_run(folder).recipe.decoding.lm_weight == found.decoding["lm_weight"]
    errors = [sum(sum(edits[:3]) for edits in one["words"].values()) for one in found.tried]
    words = sum(edits[3] for edits in found.tried[0]["words"].values())
    assert metrics["dev/wer_final"] == pytest.approx(100.0 * min(errors) / words)
    assert len(set(errors)) > 1, "they differ"


def test_a_model_folder_has_the_language_model_and_decodes_as_the_run_wherever_it_is(
    recipe: Recipe, run: Path, corpus: Corpus, tmp_path: Path
) -> None:
    write_model_folder(run, recipe, tmp_path / "model")
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere"
    assert str(corpus.folder.parent) not in (folder / "decoding.yaml").read_text()
    loaded = load_model_folder(folder)
    assert loaded.decoding.lm == str(folder / LANGUAGE_MODEL)
    assert loaded.decoding.hash == recipe.decoding.hash
    paths = [entry.audio.file for entry in corpus.entries("dev")]
    texts = api.decode(api.load_run(folder), paths)
    assert texts == api.decode(api.load_run(run), paths)
    transcriber = api.load_transcriber(folder)
    assert [transcriber.transcribe(path).text for path in paths] == [" ".join(text.split()) for text in texts]
    ours, theirs = (without_clock(score_run(place, corpus=corpus.folder)) for place in (folder, run))
    assert ours == theirs
    without = without_clock(score_run(run, language_models={"lm_weight": 0.0, "ilm_weight": 0.0}))
    assert without["dev/wer"] != ours["dev/wer"], "it counts"
    assert without["dev/ilm_perplexity"] == pytest.approx(ours["dev/ilm_perplexity"])
    write_model_folder(run, loaded.recipe, folder)  # over itself


def test_perplexities_of_texts_by_another_estimator_are_those_that_evaluate_measures(run: Path, corpus: Corpus) -> None:
    loaded, texts = api.load_run(run), [text for name in corpus.set_names("dev") for text in corpus.texts(name)]
    measured = score_run(run, estimators=True)
    for estimator, metric in (("zeroed", "dev/ilm_perplexity_zeroed"), ("skipped", "dev/ilm_perplexity")):
        values = api.perplexities(loaded, texts, estimator)
        assert sum(values) / len(values) == pytest.approx(measured[metric], rel=1e-4)
    assert measured["dev/ilm_perplexity_zeroed"] != pytest.approx(measured["dev/ilm_perplexity"], rel=1e-4)
    assert measured["dev/ilm_perplexity_mean_context"] > 1.0


def test_other_content_than_the_decoding_was_made_for_is_refused(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    write_model_folder(run, recipe, tmp_path / "model")
    path = tmp_path / "model" / LANGUAGE_MODEL
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(
        UserError, match=r"lm.safetensors: its content is \w{16}, but the recipe's decoding was made for"
    ):
        score_run(tmp_path / "model", corpus=Path(recipe.data.corpus))


def test_the_published_layout_is_refused_while_language_models_count(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"decoding.lm_weight is 0.5, but the published layout decodes without language"
    ):
        export_published(run, tmp_path / "published")
