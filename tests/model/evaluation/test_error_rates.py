from __future__ import annotations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.error_rates import Edits, Scored, character_edits, error_rate, word_edits
from model.evaluation.evaluate import macro_metrics, set_metrics

WORDS = st.lists(st.sampled_from(["turn", "on", "the", "light", "seven"]), max_size=6).map(" ".join)


def test_wer_is_pooled_and_not_the_mean_of_utterances() -> None:
    edits = [word_edits("one", "two"), word_edits("one two three four", "one two three four")]
    assert error_rate(edits) == pytest.approx(100 * 1 / 5)


def test_edits_are_told_apart() -> None:
    assert word_edits("turn on the light", "turn the the light now") == Edits(1, 0, 1, 4)
    assert word_edits("turn on", "") == Edits(0, 2, 0, 2)
    assert word_edits("", "turn on") == Edits(0, 0, 2, 0)
    assert character_edits("abc", "abd") == Edits(1, 0, 0, 3)


@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=5))
def test_pooled_wer_equals_the_one_of_the_whole_set_at_once(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [one for one, _ in pairs], [one for _, one in pairs]
    expected = 100 * jiwer.wer(references, hypotheses)
    assert error_rate(word_edits(*pair) for pair in pairs) == pytest.approx(expected)


def test_a_set_without_a_word_has_no_error_rate() -> None:
    with pytest.raises(ValueError, match="no reference holds a word"):
        error_rate([word_edits("", "a")])


def test_perplexities_differ_as_they_are_defined() -> None:
    edits = word_edits("a b", "a b")
    scored = [
        Scored("1", "a b", "a b", edits, edits, 2.0, 6.0, 2),
        Scored("2", "a b", "a b", edits, edits, 4.0, 4.0, 4),
    ]
    metrics = set_metrics(scored, "dev")
    assert metrics["dev/wer"] == 0.0
    assert metrics["dev/perplexity"] == pytest.approx(2.718281828)  # exp((2 + 4) / 6)
    assert metrics["dev/ilm_perplexity"] == pytest.approx((2.718281828**3 + 2.718281828) / 2)
    assert metrics["dev/ilm_perplexity_corpus"] == pytest.approx(2.718281828 ** (10 / 6))
    assert metrics["dev/ilm_perplexity_word"] == pytest.approx(2.718281828 ** (10 / 4))


def test_domains_are_averaged_apart(corpus) -> None:
    values = {"test-in": 10.0, "test-ood-text": 40.0, "test-ood-voice": 20.0}
    names = ("wer", "cer", "perplexity", "ilm_perplexity")
    metrics = {f"test/{name}/{metric}": value for name, value in values.items() for metric in names}
    means = macro_metrics(corpus, metrics)
    assert means["in_domain/wer"] == 10.0
    assert means["out_of_domain/wer"] == 30.0
