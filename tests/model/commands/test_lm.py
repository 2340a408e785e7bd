"""`lm`: what it prints and writes, and its file in `evaluate` and `transcribe`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from model.commands.app import main
from model.corpora.corpus import Corpus
from model.lm.files import read_header
from model.recipe.files import read_recipe
from model.strict import to_yaml
from model.training.loop import train
from model.weights.model_folder import write_model_folder


@pytest.fixture(scope="module")
def folder(make_recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm") / "run"
    train(make_recipe({"training.epochs": 1}), folder, lambda _: None)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `python -m model` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["python -m model", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_an_ngram_model_of_the_corpus_decodes_what_is_evaluated_and_transcribed(
    folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = tmp_path / "lm.safetensors"
    assert run(monkeypatch, "lm", folder, "--order", 3, "--out", lm) == 0
    size, perplexity, written = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"3-gram model, \d+ \+ \d+ \+ [\d,]+ n-grams, from 24 sentences with [\d,]+ tokens", size)
    found = re.fullmatch(r"dev perplexity ([\d.]+) of tokens, [\d.]+ of words, on (\d+) sentences", perplexity)
    assert found is not None
    header = read_header(lm)
    assert (float(found[1]), int(found[2])) == (pytest.approx(header.dev_perplexity, abs=0.01), 12)
    assert (header.kind, header.order, written) == ("ngram", 3, f"written to {lm}")
    weights = "--lm", lm, "--lm-weight", 0.8, "--ilm-weight", 0.1
    assert run(monkeypatch, "evaluate", folder, *weights, "--ilm") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^dev: WER [\d.]+ %  ILM perplexity [\d.]+$", printed, re.MULTILINE)
    for name in ("dev", *(f"test/{name}" for name in corpus.set_names("test"))):
        for estimator in ("zeroed", "mean context"):
            assert re.search(rf"^{name}: ILM perplexity, {estimator}: [\d.]+$", printed, re.MULTILINE)
    settings = (folder / "evaluation" / "dev.settings.json").read_text()
    assert yaml.safe_load(settings)["decoding"]["lm_weight"] == 0.8
    audio = next(iter(corpus.entries("dev"))).audio.file
    assert run(monkeypatch, "transcribe", folder, audio, *weights) == 0
    assert "1 recording, " in capsys.readouterr().err


def test_a_transformer_for_a_recipe_that_is_not_trained_yet_learns_from_files(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe()))
    (tmp_path / "one.txt").write_text("Turn the light on!\n\nturn the heating off\n")
    (tmp_path / "two.txt").write_text("turn the light off\n")
    sizes = ["--layers", "1", "--width", "16", "--heads", "2", "--feed-forward", "16", "--epochs", "2"]
    files = "--text", tmp_path / "one.txt", "--text", tmp_path / "two.txt", "--dev-text", tmp_path / "two.txt"
    source, out = tmp_path / "recipe.yaml", tmp_path / "lm"
    command = "lm", source, "--kind", "transformer", *sizes, *files, "--normaliser", "basic", "--out", out
    assert run(monkeypatch, *command) == 0
    first, second, size, perplexity, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch 1: dev perplexity ")
    assert second.startswith("epoch 2: dev perplexity ")
    assert re.fullmatch(r"Transformer, 2,\d{3} parameters, from 3 sentences with \d+ tokens", size)
    assert perplexity.endswith("on 1 sentences")
    assert read_header(out).transformer is not None


def test_a_model_folder_needs_its_corpus_only_for_texts_that_are_not_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(folder / "recipe.yaml")
    write_model_folder(
        folder,
        recipe.model_copy(update={"data": recipe.data.model_copy(update={"corpus": "gone"})}),
        tmp_path / "model",
    )
    (tmp_path / "text").write_text("turn the light on\n")
    (tmp_path / "none").write_text("\n")
    model, out = tmp_path / "model", tmp_path / "lm"
    assert run(monkeypatch, "lm", model, "--text", tmp_path / "text", "--dev-text", tmp_path / "none", "-o", out) == 0
    assert "dev perplexity not measured: the dev text holds no sentence" in capsys.readouterr().out
    assert run(monkeypatch, "lm", model, "--text", tmp_path / "text", "-o", out) == 2
    assert "gone: no such folder" in capsys.readouterr().err


def test_a_named_recipe_on_a_corpus_has_the_tokenizer_of_its_trainings(
    folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "lm", "tiny", "--corpus", corpus.folder, "-o", tmp_path / "named") == 0
    assert run(monkeypatch, "lm", folder, "-o", tmp_path / "trained") == 0  # its recipe is tiny's, with 40 pieces
    assert (tmp_path / "named").read_bytes() == (tmp_path / "trained").read_bytes()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["lm", "nowhere"], "error: nowhere: is no recipe file and no folder with a recipe.yaml; give one, or add"),
        (["evaluate", "RUN", "--lm", "x"], "its weight is not given; add --lm-weight, such as 0.3"),
        (
            ["evaluate", "RUN", "--lm", "x", "--lm-weight", "0.3"],
            "x: there is no such language model; make one with `lm`",
        ),
        (["evaluate", "RUN", "--lm-weight", "0.3"], "decoding: lm_weight is 0.3, but lm names no language model"),
        (["lm", "RUN", "--text", "nowhere"], "error: nowhere: cannot be read (No such file or directory); give a text"),
        (
            ["lm", "RUN", "--kind", "transformer", "--width", "20"],
            "lm: width is 20 with 4 heads, but must be a multiple",
        ),
        (
            ["lm", "RUN", "--text", "RUN/recipe.yaml", "--normaliser", "bsic"],
            "normaliser 'bsic' is unknown; did you me",
        ),
    ],
)
def test_wrong_input_is_one_line(
    folder: Path, typed: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert run(monkeypatch, *(one.replace("RUN", str(folder)) for one in typed)) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
