from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.corpora.corpus import Corpus, SetInfo
from model.evaluation.error_rates import Edits, ScoredUtterance
from model.evaluation.metrics import average_domains, compute_dev_metrics, compute_metrics

E = 2.718281828


def scored(key: str, errors: int, words: int, nll: float = 1.0, set_name: str = "dev") -> ScoredUtterance:
    """An utterance of two tokens with so many errors among its words, and twice as many for CTC."""
    edits, ctc = Edits(errors, 0, 0, words), Edits(2 * errors, 0, 0, words)
    return ScoredUtterance(key, "a b", "a b", edits, edits, nll, 2 * nll, 2, ctc, set_name=set_name)


def test_each_metric_is_computed_as_it_is_defined() -> None:
    edits, ctc = Edits(0, 0, 0, 2), Edits(0, 1, 0, 2)
    pair = [
        ScoredUtterance("1", "a b", "a b", edits, edits, 2.0, 6.0, 2, ctc, (4.0, 0.0)),
        ScoredUtterance("2", "a b", "a b", edits, edits, 4.0, 4.0, 4, edits, (8.0, 3.0)),
    ]
    metrics = compute_metrics(pair, "dev", [2, 3])
    assert metrics["dev/wer"] == 0.0
    assert metrics["dev/ctc_wer"] == 25.0
    assert metrics["dev/perplexity"] == pytest.approx(E)  # exp((2 + 4) / 6)
    assert metrics["dev/perplexity_layer_2"] == pytest.approx(E**2)
    assert metrics["dev/perplexity_layer_3"] == pytest.approx(E**0.5)
    assert metrics["dev/ilm_perplexity"] == pytest.approx((E**3 + E) / 2)
    assert metrics["dev/ilm_perplexity_corpus"] == pytest.approx(E ** (10 / 6))
    assert metrics["dev/ilm_perplexity_word"] == pytest.approx(E ** (10 / 4))
    assert "dev/perplexity_layer_2" not in compute_metrics(pair, "dev")


def test_domains_are_averaged_separately(corpus: Corpus) -> None:
    values = {"test-in": 10.0, "test-ood-text": 40.0, "test-ood-voice": 20.0}
    names = ("wer", "cer", "perplexity", "ilm_perplexity")
    metrics = {f"test/{name}/{metric}": value for name, value in values.items() for metric in names}
    means = average_domains(corpus, metrics)
    assert means["in_domain/wer"] == 10.0
    assert means["out_of_domain/wer"] == 30.0


def with_dev_sets(corpus: Corpus, domains: dict[str, Any]) -> Corpus:
    """The corpus with dev sets of these domains."""
    sets = {name: SetInfo(role="dev", domain=domain, utterances=1, seconds=1.0) for name, domain in domains.items()}
    return replace(corpus, sets={"train": corpus.sets["train"]} | sets)


def test_several_dev_sets_are_pooled_averaged_and_told_apart_by_set_and_domain(corpus: Corpus) -> None:
    domains = {"news": "in", "radio": "in", "dialect": "out"}
    utterances = [
        scored("a", 1, 10, 1.0, "news"),
        scored("b", 0, 30, 2.0, "radio"),
        scored("c", 6, 10, 6.0, "dialect"),
        scored("d", 1, 10, 3.0, "news"),
    ]
    metrics = compute_dev_metrics(with_dev_sets(corpus, domains), utterances)
    assert metrics["dev/wer"] == pytest.approx(100 * 8 / 60), "pooled: long sets count more"
    assert metrics["dev/ctc_wer"] == pytest.approx(100 * 16 / 60)
    sets = {name: metrics[f"dev/{name}/wer"] for name in domains}
    assert sets == {"news": pytest.approx(10.0), "radio": 0.0, "dialect": pytest.approx(60.0)}
    assert metrics["dev/macro_wer"] == pytest.approx(70 / 3)
    assert metrics["dev/in_domain/wer"] == pytest.approx(100 * 2 / 50), "pooled over the sets of the domain"
    assert metrics["dev/out_of_domain/wer"] == pytest.approx(60.0)
    assert metrics["dev/in_domain/perplexity"] == pytest.approx(E ** (6 / 6))
    assert metrics["dev/out_of_domain/perplexity"] == pytest.approx(E ** (6 / 2))
    assert {f"dev/out_of_domain/{name}" for name in ("wer", "cer", "perplexity", "ilm_perplexity")} <= metrics.keys()


@pytest.mark.parametrize(("domain", "present", "absent"), [("in", "in", "out_of"), ("out", "out_of", "in")])
def test_a_single_dev_set_is_its_own_mean_and_domain(corpus: Corpus, domain: str, present: str, absent: str) -> None:
    single = with_dev_sets(corpus, {"dev": domain})
    metrics = compute_dev_metrics(single, [scored("a", 1, 10), scored("b", 0, 30)])
    assert metrics["dev/wer"] == metrics["dev/macro_wer"] == metrics[f"dev/{present}_domain/wer"] == 2.5
    assert not any(name.startswith(f"dev/{absent}_domain") for name in metrics)
    assert "dev/dev/wer" not in metrics


def test_two_sets_of_one_domain_have_no_figures_of_the_other(corpus: Corpus) -> None:
    two = with_dev_sets(corpus, {"one": "in", "two": "in"})
    metrics = compute_dev_metrics(two, [scored("a", 1, 10, set_name="one"), scored("b", 0, 30, set_name="two")])
    assert metrics["dev/in_domain/wer"] == metrics["dev/wer"] == 2.5
    assert metrics["dev/macro_wer"] == 5.0
    assert not any("out_of_domain" in name for name in metrics)
