"""Modified Kneser-Ney against the formulas of the paper, computed with dictionaries and without tensors."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.lm.ngram import NgramLm
from model.lm.ngram_counts import FALLBACK_DISCOUNTS, find_discounts

BOS, EOS, VOCABULARY = 0, 1, 6
Tokens = tuple[int, ...]
texts = st.lists(st.lists(st.integers(2, 5), max_size=5).map(lambda tokens: [*tokens, EOS]), min_size=1, max_size=12)


class PlainKneserNey:
    """The recursion of model/lm/ngram_counts.py for one context at a time."""

    def __init__(self, text: list[list[int]], order: int) -> None:
        self.counts: list[Counter[Tokens]] = []  # adjusted, of orders 1, 2, ...
        lines = [(BOS, *sentence) for sentence in text]
        for length in range(1, order + 1):
            grams = [line[end - length : end] for line in lines for end in range(length, len(line) + 1)]
            longer = {line[end - length - 1 : end] for line in lines for end in range(length + 1, len(line) + 1)}
            different = Counter(gram[1:] for gram in longer)
            counts = Counter(grams)
            adjusted = {
                gram: count if length == order or gram[0] == BOS else different[gram]
                for gram, count in counts.items()
                if gram != (BOS,)
            }
            self.counts.append(Counter(adjusted))
        self.discounts = [find_discounts(np.array([*counts.values(), 0])) for counts in self.counts]

    def probability(self, context: Tokens, token: int) -> float:
        order = len(context) + 1
        followers = {gram[-1]: count for gram, count in self.counts[order - 1].items() if gram[:-1] == context}
        lower = self.probability(context[1:], token) if context else 1 / VOCABULARY
        if not followers:
            return lower
        total = sum(followers.values())
        taken = {token: self.discounts[order - 1][min(count, 3) - 1] for token, count in followers.items()}
        own = (followers[token] - taken[token]) / total if token in followers else 0.0
        return own + sum(taken.values()) / total * lower


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 4), st.lists(st.integers(2, 5), max_size=4))
def test_every_probability_is_that_of_the_papers_recursion(
    text: list[list[int]], order: int, history: list[int]
) -> None:
    state, plain = NgramLm.estimate(text, order, VOCABULARY, BOS).start(), PlainKneserNey(text, order)
    written: Tokens = ()
    for token in (BOS, *history):
        written = (*written, token)
        (log_probs,) = state.step(torch.tensor([token]))
        context = written[-(order - 1) :] if order > 1 else ()
        expected = [plain.probability(context, next_token) for next_token in range(VOCABULARY)]
        assert log_probs.exp().tolist() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=60))
def test_a_discount_takes_something_from_every_count_and_never_more_than_the_count(counts: list[int]) -> None:
    assert all(0 < discount <= count for count, discount in enumerate(find_discounts(np.array(counts, dtype=int)), 1))


def test_discounts_are_those_of_the_counts_of_counts_or_fixed_ones_for_a_text_that_is_too_small() -> None:
    counts = np.repeat([1, 2, 3, 4, 7], [20, 8, 4, 2, 3])  # Y = 20 / 36
    y = 20 / 36
    assert find_discounts(counts) == pytest.approx((1 - 2 * y * 8 / 20, 2 - 3 * y * 4 / 8, 3 - 4 * y * 2 / 4))
    assert find_discounts(np.repeat([1, 2, 3], [20, 8, 4])) == FALLBACK_DISCOUNTS


def test_a_token_after_many_different_ones_is_likelier_in_a_new_context_than_one_as_frequent_after_a_single_one() -> (
    None
):
    # "San Francisco": 5 follows 4 alone, 3 follows each of the others.
    text = [[4, 5, EOS], [4, 5, EOS], [4, 5, EOS], [2, 3, EOS], [4, 3, EOS], [3, 3, EOS]]
    model = NgramLm.estimate(text, 2, VOCABULARY, BOS)
    state = model.start()
    state.step(torch.tensor([BOS]))
    (after_new,) = state.step(torch.tensor([5]))
    assert after_new[3] > after_new[5]
    assert Counter(token for sentence in text for token in sentence)[5] == 3
    assert model.sizes[0] == 6, "bos is a context, too"


def test_what_was_never_seen_before_a_context_changes_nothing() -> None:
    text = [[2, 3, 4, EOS], [3, 4, 5, EOS]] * 2
    seen: dict[str, torch.Tensor] = defaultdict(torch.Tensor)
    for name, history in {"new": [BOS, 5, 3], "known": [BOS, 4, 3]}.items():  # neither 5 3 nor 4 3 is in the text
        state = NgramLm.estimate(text, 3, VOCABULARY, BOS).start()
        for token in history:
            seen[name] = state.step(torch.tensor([token]))
    assert torch.equal(seen["new"], seen["known"])


def test_the_model_of_its_tensors_is_the_same_and_an_order_beyond_all_sentences_is_theirs() -> None:
    model = NgramLm.estimate([[2, EOS]], 8, VOCABULARY, BOS)
    assert model.sizes == [3, 2, 1]
    again = NgramLm.from_tensors(model.to_tensors(), model.order, VOCABULARY)
    for state in (model.start(), again.start()):
        state.step(torch.tensor([BOS]))
        log_probs = state.step(torch.tensor([2]))
        assert log_probs.argmax() == EOS
    assert log_probs.exp().sum() == pytest.approx(1.0)


def test_a_text_without_a_sentence_is_refused() -> None:
    with pytest.raises(UserError, match="the text of the language model holds no sentence; give one that does"):
        NgramLm.estimate([], 3, VOCABULARY, BOS)
