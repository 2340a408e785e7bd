from __future__ import annotations

import pytest

from model.evaluation.error_rates import ScoredUtterance, word_edits
from model.evaluation.scoring import average_domains, compute_metrics


def test_each_perplexity_is_computed_as_it_is_defined() -> None:
    edits = word_edits("a b", "a b")
    scored = [
        ScoredUtterance("1", "a b", "a b", edits, edits, 2.0, 6.0, 2),
        ScoredUtterance("2", "a b", "a b", edits, edits, 4.0, 4.0, 4),
    ]
    metrics = compute_metrics(scored, "dev")
    assert metrics["dev/wer"] == 0.0
    assert metrics["dev/perplexity"] == pytest.approx(2.718281828)  # exp((2 + 4) / 6)
    assert metrics["dev/ilm_perplexity"] == pytest.approx((2.718281828**3 + 2.718281828) / 2)
    assert metrics["dev/ilm_perplexity_corpus"] == pytest.approx(2.718281828 ** (10 / 6))
    assert metrics["dev/ilm_perplexity_word"] == pytest.approx(2.718281828 ** (10 / 4))


def test_domains_are_averaged_separately(corpus) -> None:
    values = {"test-in": 10.0, "test-ood-text": 40.0, "test-ood-voice": 20.0}
    names = ("wer", "cer", "perplexity", "ilm_perplexity")
    metrics = {f"test/{name}/{metric}": value for name, value in values.items() for metric in names}
    means = average_domains(corpus, metrics)
    assert means["in_domain/wer"] == 10.0
    assert means["out_of_domain/wer"] == 30.0
