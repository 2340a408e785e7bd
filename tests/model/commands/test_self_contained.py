"""A run's folder is enough to score, to mix and to export it; the corpus is needed only as data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from model.commands.app import make_app
from model.commands.evaluate import score_run
from model.corpora.corpus import Corpus
from model.corpora.demo.build import make_demo
from model.data.tokenizer import TOKENIZER_FILE
from model.decoding.mixing import MIXING_FILE, save_mixing
from model.errors import UserError
from model.training.loop import train
from model.training.prepare import prepare

AUXILIARY = {"loss.auxiliary": {"placement": [1, 3], "weights": [0.3, 0.2]}, "training.epochs": 1}


@pytest.fixture(scope="module")
def other_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("other") / "demo"
    return make_demo(folder, seed=7, train_utterances=20, dev_utterances=2, test_utterances=2)


@pytest.fixture(scope="module")
def trained(make_recipe, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    """A run of one epoch, and a copy of the corpus on which it was trained, whose tokenizer is no longer there."""
    folder = tmp_path_factory.mktemp("self_contained")
    shutil.copytree(corpus.folder, folder / "corpus")
    recipe = make_recipe(AUXILIARY | {"encoder.feed_forward": 16, "data.corpus": str(folder / "corpus")})
    train(prepare(recipe), folder / "run", lambda _: None)
    for path in (folder / "corpus" / "cache").glob("unigram-*"):
        path.write_bytes(b"not the tokenizer of the run")
    return folder / "run", Corpus(**{**vars(corpus), "folder": folder / "corpus"})


@pytest.fixture
def run(trained: tuple[Path, Corpus], tmp_path: Path) -> Path:
    """A copy of the trained run's folder."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.fixture
def no_corpus(trained: tuple[Path, Corpus]):
    """The run's corpus is gone while the test runs."""
    folder = trained[1].folder
    hidden = folder.rename(folder.with_name("hidden"))
    yield
    hidden.rename(folder)


def test_a_run_is_scored_on_another_corpus_without_its_own(run: Path, no_corpus, other_corpus: Corpus) -> None:
    metrics = score_run(run, corpus=other_corpus.folder)
    assert {"dev/wer", "in_domain/wer", "out_of_domain/ilm_perplexity"} <= metrics.keys()
    lines = (run / "evaluation" / "dev.jsonl").read_text().splitlines()
    assert [json.loads(line)["reference"] for line in lines] == sorted_texts(other_corpus)
    with pytest.raises(UserError, match=r"corpus .*/corpus: no such folder"):
        score_run(run)


def sorted_texts(corpus: Corpus) -> list[str]:
    """The texts of all dev sets, in the order of their ids."""
    cuts = [cut for name in corpus.set_names("dev") for cut in corpus.cuts(name)]
    return [cut.supervisions[0].text for cut in sorted(cuts, key=lambda cut: cut.id)]


def test_a_run_is_exported_with_its_tokenizer_and_without_its_corpus(run: Path, no_corpus, tmp_path: Path) -> None:
    from model.weights.import_export import export_published

    export_published(run, tmp_path / "model")
    assert (tmp_path / "model" / TOKENIZER_FILE).read_bytes() == (run / TOKENIZER_FILE).read_bytes()


def test_a_run_is_mixed_on_its_training_set_with_its_own_tokenizer_and_then_scored_mixed(run: Path) -> None:
    with pytest.raises(UserError, match="learn the weights first"):
        score_run(run, mixed=True)
    app, weights = make_app("python -m model"), run / "chosen" / MIXING_FILE
    result = CliRunner().invoke(app, ["mix", str(run), "--per-token", "--epochs", "1"], catch_exceptions=False)
    assert re.match(r"weights \(means over tokens\): layer 1 \S+, layer 3 \S+, final \S+; written to ", result.output)
    assert result.output.endswith(f"{weights}\n")
    without = score_run(run)
    save_mixing(torch.tensor([0.0, 0.0, -1.0]), weights.parent)
    mixed = score_run(run, mixed=True)
    assert mixed["dev/wer"] != without["dev/wer"], "the least likely token at every step is another hypothesis"
    assert mixed["dev/perplexity"] == without["dev/perplexity"], "perplexities are the final classifier's"


def test_a_run_of_an_older_version_is_loaded_through_its_corpus(run: Path, trained, corpus: Corpus) -> None:
    (run / TOKENIZER_FILE).unlink()
    with pytest.raises(UserError, match="holds no SentencePiece model"):
        score_run(run)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(trained[1].folder), str(corpus.folder)))
    assert "dev/wer" in score_run(run)
