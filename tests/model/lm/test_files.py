"""Files of language models: what was written comes back, and what does not fit the model is refused in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.corpora.corpus import Corpus
from model.data.recipe_inputs import load_tokenizer
from model.data.tokenizer import Tokenizer
from model.errors import UserError
from model.lm.building import build_ngram, build_transformer, describe_size, encode_text, read_corpus_sentences
from model.lm.files import check_lm, load_lm, read_header, save_lm
from model.lm.scorer import score_sentences, sum_scores
from model.lm.transformer import TransformerLmConfig
from model.lm.transformer_training import LmTraining
from model.strict import file_fingerprint

SMALL = TransformerLmConfig(layers=1, width=16, heads=2, feed_forward=16)


@pytest.fixture(scope="module")
def tokenizer(make_recipe, corpus: Corpus) -> Tokenizer:
    return load_tokenizer(make_recipe(), corpus)


@pytest.fixture(scope="module")
def files(tokenizer: Tokenizer, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each kind."""
    folder = tmp_path_factory.mktemp("lm")
    train, dev = (encode_text(read_corpus_sentences(corpus, role), tokenizer) for role in ("train", "dev"))
    save_lm(folder / "ngram", *build_ngram(train, dev, tokenizer, 0, 3))
    fast = LmTraining(epochs=1, warmup_steps=2)
    scene = tokenizer, 0, SMALL, fast, lambda epoch, perplexity: None
    save_lm(folder / "transformer", *build_transformer(train, dev, *scene))
    return folder


@pytest.mark.parametrize("kind", ["ngram", "transformer"])
def test_a_model_that_was_written_scores_the_dev_text_as_its_header_says(
    files: Path, tokenizer: Tokenizer, corpus: Corpus, kind: str
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    header, model = read_header(files / kind), load_lm(files / kind, tokenizer, file_fingerprint(files / kind))
    assert torch.equal(torch.rand(2), expected), "loading draws nothing"
    dev = encode_text(read_corpus_sentences(corpus, "dev"), tokenizer)
    reached = sum_scores(score_sentences(model, dev.sentences, 0)).perplexity
    assert (header.kind, header.sentences) == (kind, len(read_corpus_sentences(corpus, "train")))
    assert header.dev_perplexity == pytest.approx(reached, rel=1e-6)
    assert 1.0 < reached < 60.0
    assert describe_size(model).startswith({"ngram": "3-gram model, ", "transformer": "Transformer, "}[kind])


def test_a_model_of_another_tokenizer_or_other_content_is_refused(
    files: Path, tokenizer: Tokenizer, make_recipe, corpus: Corpus
) -> None:
    other = load_tokenizer(make_recipe({"tokenizer.vocabulary": 36}), corpus)
    with pytest.raises(
        UserError, match=r"ngram: was made for the tokenizer \w{16}, but that of the model is \w{16}; ma"
    ):
        load_lm(files / "ngram", other)
    with pytest.raises(
        UserError, match=r"ngram: its content is \w{16}, but the recipe's decoding was made for 0123; g"
    ):
        check_lm(files / "ngram", tokenizer, "0123")


def test_what_is_missing_damaged_or_something_else_is_named(files: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    with pytest.raises(UserError, match=r"lm.safetensors: there is no such language model; make one with `lm`"):
        load_lm(path, tokenizer)
    path.write_bytes((files / "ngram").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"lm.safetensors: holds no language model of `lm` \(.*\); make it again"):
        load_lm(path, tokenizer)
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"holds no language model of `lm` \(its header has no 'decred_lm'\)"):
        load_lm(path, tokenizer)
    header = read_header(files / "transformer")
    save_file({"weights": torch.zeros(2)}, path, {"decred_lm": header.model_dump_json()})
    with pytest.raises(UserError, match=r"holds no language model of `lm` \(Error\(s\) in loading state_dict"):
        load_lm(path, tokenizer)
