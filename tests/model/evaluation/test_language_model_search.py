"""The stage of the search for a decoding that tries weights of language models, the internal one among them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_runs import ALONE

from model.corpora.corpus import Corpus
from model.data.recipe_inputs import load_tokenizer
from model.evaluation.decoding_search import (
    LANGUAGE_MODELS,
    DecodingSearch,
    TriedDecoding,
    best_decoding,
    list_stages,
    plan_stage,
    search_decoding,
)
from model.evaluation.error_rates import Edits, sum_edits
from model.evaluation.scoring import load_dev_utterances, score_set
from model.lm.building import build_ngram, encode_text, read_corpus_sentences
from model.lm.files import save_lm
from model.network.recogniser import Recogniser
from model.recipe.decoding import DecodingConfig, DecodingSearchConfig

LM_ALONE = DecodingSearchConfig(ctc_weight=(), beam=(), length_penalty=(), lm_weight=(0.5, 2.0))
WITH_ILM = LM_ALONE.model_copy(update={"ilm_weight": (0.3,)})


@pytest.fixture
def model(make_recipe) -> Recogniser:
    """An untrained model: only a language model knows what may be said."""
    torch.manual_seed(3)
    model = Recogniser(make_recipe()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def search(
    model: Recogniser, corpus: Corpus, make_recipe, text: list[str], path: Path, settings: DecodingSearchConfig
) -> DecodingSearch:
    tokenizer = load_tokenizer(make_recipe(), corpus)
    train = encode_text(text, tokenizer)
    save_lm(path, *build_ngram(train, train, tokenizer, 0, 4))
    dev, start = load_dev_utterances(corpus, tokenizer), DecodingConfig(ctc_weight=0.0, lm=str(path))
    done = search_decoding(model, dev, start, settings, tokenizer, ALONE, 1000.0)
    assert done.stages == ["start", "language models", "length penalty"]
    points = [(one.decoding.lm_weight, one.decoding.ilm_weight) for one in done.tried]
    assert points == list(itertools.product((0.0, *settings.lm_weight), (0.0, *settings.ilm_weight)))
    for one in done.tried[1::2]:  # as scoring the sets with it
        scored = score_set(model, dev, one.decoding, tokenizer, ALONE)
        assert one.words == sum_edits(utterance.words for utterance in scored)
    return done


def test_a_language_model_that_knows_the_sentences_gets_a_weight(
    model: Recogniser, make_recipe, corpus: Corpus, tmp_path: Path
) -> None:
    with torch.no_grad():  # the model alone never ends a sentence
        model.decoder.norm.bias[0], model.decoder.final.weight[:, 0] = 1.0, 0.0
        model.decoder.final.weight[model.special.eos, 0] = -3.0
    done = search(model, corpus, make_recipe, read_corpus_sentences(corpus, "dev"), tmp_path / "lm", LM_ALONE)
    best = best_decoding(done.tried)
    assert best.decoding.lm_weight > 0.0
    assert best.words.errors < done.tried[0].words.errors


def test_a_language_model_of_something_else_gets_none(
    model: Recogniser, make_recipe, corpus: Corpus, tmp_path: Path
) -> None:
    done = search(model, corpus, make_recipe, ["a " * 60] * 20, tmp_path / "lm", WITH_ILM)
    assert best_decoding(done.tried).decoding.lm_weight == 0.0
    assert max(one.words.errors for one in done.tried) > done.tried[0].words.errors, "it does harm"


@given(
    st.sets(st.sampled_from([0.1, 0.3]), max_size=2), st.sets(st.sampled_from([0.2, 0.4]), max_size=2), st.booleans()
)
def test_every_pair_of_weights_is_tried_once_with_the_best_ctc_weight(
    lm_weights: set[float], ilm_weights: set[float], has_lm: bool
) -> None:
    settings = DecodingSearchConfig(ctc_weight=(0.6,), lm_weight=tuple(lm_weights), ilm_weight=tuple(ilm_weights))
    start = DecodingConfig(lm="lm" if has_lm else None)
    tried: list[TriedDecoding] = []
    stages = list_stages(settings)
    assert (LANGUAGE_MODELS in stages) == bool(lm_weights or ilm_weights)
    for stage in stages[: stages.index("beam 4")]:
        for decoding in plan_stage(stage, start, settings, tried):
            errors = 3 if decoding.ctc_weight == 0.6 else 5
            tried.append(TriedDecoding(stage, decoding, {"dev": Edits(errors, 0, 0, 10)}, 1.0))
    found = [(one.decoding.lm_weight, one.decoding.ilm_weight) for one in tried if one.stage == LANGUAGE_MODELS]
    wanted = {(lm, ilm) for lm in {0.0, *(lm_weights if has_lm else ())} for ilm in {0.0, *ilm_weights}} - {(0.0, 0.0)}
    assert sorted(found) == sorted(wanted)
    assert all(one.decoding.ctc_weight == 0.6 for one in tried if one.stage == LANGUAGE_MODELS)
    assert best_decoding(tried).decoding.lm_weight == 0.0, "of equals the one without"
