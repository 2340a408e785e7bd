"""The Transformer language model: token by token as all at once; training learns, ends and can be repeated."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.lm.scorer import score_sentences, sum_scores
from model.lm.transformer import TransformerLm, TransformerLmConfig
from model.lm.transformer_training import LmTraining, plan_batches, score_text, train_transformer
from model.strict import validate

BOS, EOS, VOCABULARY = 0, 1, 12
CONFIG = TransformerLmConfig(layers=1, width=16, heads=2, feed_forward=32, dropout=0.1)
FAST = LmTraining(epochs=10, learning_rate=1e-2, warmup_steps=5, batch_tokens=60, least_steps=1)


def count_up(seed: int, sentences: int) -> list[list[int]]:
    """Sentences in which each token is the one before it and one more, and eos follows 8."""
    draw = random.Random(seed)
    return [[*range(start, 9), EOS] for start in (draw.randint(2, 6) for _ in range(sentences))]


def train(settings: LmTraining = FAST, seen: list[tuple[int, float]] | None = None) -> TransformerLm:
    reports = [] if seen is None else seen
    report = lambda epoch, perplexity: reports.append((epoch, perplexity))  # noqa: E731
    return train_transformer(count_up(0, 100), count_up(1, 20), VOCABULARY, BOS, CONFIG, settings, report)


def test_all_tokens_at_once_are_scored_as_token_by_token() -> None:
    torch.manual_seed(0)
    model = TransformerLm(VOCABULARY, CONFIG).eval()
    sentences = [[5, 6, EOS], [2, 9, 9, 9, EOS], [EOS]]
    whole, steps = score_text(model, sentences, BOS, 8), sum_scores(score_sentences(model, sentences, BOS))
    assert whole == (pytest.approx(steps.nll, abs=1e-4), steps.tokens)


def test_training_finds_the_entropy_of_a_simple_language_and_leaves_the_callers_draws_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    seen: list[tuple[int, float]] = []
    model = train(seen=seen)
    assert torch.equal(torch.rand(3), expected)
    dev = count_up(1, 20)
    reached = score_text(model, dev, BOS, 100).perplexity
    lowest = math.exp(math.log(5) * len(dev) / sum(map(len, dev)))  # the start is one of five, all else is certain
    assert lowest < reached < 1.15 * lowest
    assert reached == pytest.approx(min(perplexity for _, perplexity in seen)), "of the best epoch"
    assert not model.training


def test_the_same_seed_trains_the_same_model_and_another_seed_another() -> None:
    short = replace(FAST, epochs=1)
    first, second = train(short).state_dict(), train(short).state_dict()
    other = train(replace(short, seed=1)).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_training_ends_when_the_dev_text_has_gained_nothing_for_some_epochs() -> None:
    seen: list[tuple[int, float]] = []
    train(replace(FAST, epochs=50, patience=2, learning_rate=3.0), seen)  # diverges
    best = min(range(len(seen)), key=lambda place: seen[place][1])
    assert len(seen) == best + 1 + 2 < 50


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 20), st.integers(0, 5))
def test_each_sentence_is_in_one_batch_and_a_batch_exceeds_its_tokens_only_where_it_is_one_sentence(
    lengths: list[int], most: int, seed: int
) -> None:
    batches = plan_batches([[EOS] * length for length in lengths], most, np.random.default_rng(seed))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= most


def test_empty_texts_and_widths_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="the dev text of the language model holds no sentence"):
        train_transformer([[EOS]], [], VOCABULARY, BOS, CONFIG, FAST, lambda epoch, perplexity: None)
    with pytest.raises(UserError, match="lm: width is 20 with 4 heads, but must be a multiple of 8"):
        validate(TransformerLmConfig, {"width": 20}, "lm")
