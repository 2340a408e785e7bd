"""What every language model promises to decoding: the n-gram model, the Transformer and the internal one alike."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.lm.internal import InternalLm, make_context_memory, make_zero_memory
from model.lm.ngram import NgramLm
from model.lm.scorer import TokenScorer, score_sentences, sum_scores
from model.lm.transformer import TransformerLm, TransformerLmConfig
from model.network.recogniser import Recogniser

BOS, EOS, VOCABULARY = 0, 1, 40
KINDS = ("ngram", "unigram", "transformer", "internal", "internal zeroed", "internal constant", "internal mixed")


def make_internal(make_recipe: Any, kind: str) -> TokenScorer:
    torch.manual_seed(4)
    model = Recogniser(make_recipe({"loss.auxiliary": {"placement": [2], "weights": [0.4]}})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    decoder = model.decoder
    if kind == "internal zeroed":
        return InternalLm(decoder, make_zero_memory(decoder))
    if kind == "internal constant":
        return InternalLm(decoder, make_context_memory(decoder, torch.randn(4, 16)))
    if kind == "internal mixed":
        decoder.mixing = torch.tensor([0.3, 0.7])
    return InternalLm(decoder)


@pytest.fixture(scope="module")
def scorers(make_recipe) -> dict[str, TokenScorer]:
    draw = random.Random(3)
    text = [[*(draw.randint(4, 39) for _ in range(draw.randint(1, 8))), EOS] for _ in range(200)]
    torch.manual_seed(1)
    config = TransformerLmConfig(layers=2, width=16, heads=2, feed_forward=24)
    made: dict[str, TokenScorer] = {
        "ngram": NgramLm.estimate(text, 4, VOCABULARY, BOS),
        "unigram": NgramLm.estimate(text, 1, VOCABULARY, BOS),
        "transformer": TransformerLm(VOCABULARY, config).eval(),
    }
    return made | {kind: make_internal(make_recipe, kind) for kind in KINDS if kind.startswith("internal")}


def run_alone(scorer: TokenScorer, tokens: list[int]) -> torch.Tensor:
    """The log-probabilities after the last of these tokens, for this hypothesis alone: (V,)."""
    state = scorer.start()
    for token in tokens:
        log_probs = state.step(torch.tensor([token]))
    return log_probs[0]


histories = st.lists(st.lists(st.integers(2, VOCABULARY - 1), min_size=3, max_size=3), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(steps=histories)
def test_the_probabilities_of_every_next_token_are_positive_and_sum_to_1(
    scorers: dict[str, TokenScorer], kind: str, steps: list[list[int]]
) -> None:
    state = scorers[kind].start()
    for tokens in [[BOS] * 3, *steps]:
        log_probs = state.step(torch.tensor(tokens))
        assert log_probs.shape == (3, VOCABULARY)
        assert torch.isfinite(log_probs).all()
        assert log_probs.double().exp().sum(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(data=st.data(), steps=histories)
def test_a_selected_hypothesis_is_scored_as_if_it_were_alone(
    scorers: dict[str, TokenScorer], kind: str, data: st.DataObject, steps: list[list[int]]
) -> None:
    scorer = scorers[kind]
    state, written = scorer.start(), [[BOS]] * 3
    state.step(torch.tensor([BOS] * 3))
    for tokens in steps:
        rows = data.draw(st.lists(st.integers(0, len(written) - 1), min_size=1, max_size=3))
        state.select(torch.tensor(rows))
        written = [[*written[row], token] for row, token in zip(rows, tokens, strict=False)]
        log_probs = state.step(torch.tensor([tokens[-1] for tokens in written]))
    for tokens, found in zip(written, log_probs, strict=True):
        torch.testing.assert_close(found, run_alone(scorer, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_summed_score_of_its_tokens_with_eos_whatever_is_scored_beside_it(
    scorers: dict[str, TokenScorer], kind: str
) -> None:
    sentences = [[5, 6, 7, EOS], [EOS], [39, EOS], [8, 8, 8, 8, 8, 8, EOS]]
    scores = score_sentences(scorers[kind], sentences, BOS)
    for sentence, score in zip(sentences, scores, strict=True):
        before = itertools.accumulate([[BOS], *([token] for token in sentence[:-1])])
        expected = -sum(
            float(run_alone(scorers[kind], tokens)[token]) for tokens, token in zip(before, sentence, strict=True)
        )
        assert score == (pytest.approx(expected, abs=1e-3), len(sentence))
    assert sum_scores(scores).tokens == 14
    assert sum_scores(scores).nll == pytest.approx(sum(score.nll for score in scores))
