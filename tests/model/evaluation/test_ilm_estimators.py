"""Other estimators of the internal language model: against attention computed by hand, and over two workers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from training_runs import ALONE

from model.corpora.corpus import Corpus
from model.data.batches import make_scoring_batches
from model.data.recipe_inputs import load_tokenizer
from model.evaluation import ilm_estimators
from model.evaluation.ilm_estimators import mean_perplexity, measure_contexts, score_estimators
from model.evaluation.metrics import compute_dev_metrics
from model.evaluation.scoring import load_dev_utterances, score_set
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.runtime.progress import follow_progress


def make_model(recipe: Recipe) -> Recogniser:
    torch.manual_seed(6)
    model = Recogniser(recipe).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.inference_mode()
def contexts_of_utterance(model: Recogniser, features: Tensor, labels: list[int]) -> Tensor:
    """What each layer reads at each token of one utterance, with softmax and sums alone: (L, U, D)."""
    memory = model.prepare_memory(model.encode(features[None], torch.tensor([len(features)])))
    x, contexts = model.decoder.embed(torch.tensor([[model.special.bos, *labels[:-1]]])), []
    for layer, (keys, values) in zip(model.decoder.typed_layers(), memory.keys_values, strict=True):
        x = x + layer.attention(layer.norm_self(x))
        queries = layer.cross_attention.query(layer.norm_cross(x))[0]  # (U, D)
        heads, width = keys.shape[1], keys.shape[-1]
        parts = []
        for head in range(heads):
            q = queries[:, head * width : (head + 1) * width]
            weights = torch.softmax(q @ keys[0, head].T / math.sqrt(width), dim=1)
            parts.append(weights @ values[0, head])
        contexts.append(torch.cat(parts, dim=1))
        x = x + layer.cross_attention.out(contexts[-1][None])
        x = x + layer.feed_forward(layer.norm_feed_forward(x))
    return torch.stack(contexts)


def test_the_mean_context_is_over_all_tokens_of_all_utterances_whatever_the_batches(
    make_recipe, corpus: Corpus
) -> None:
    model = make_model(make_recipe())
    dev = load_dev_utterances(corpus, load_tokenizer(make_recipe(), corpus))
    rows = [contexts_of_utterance(model, dev.features(row), dev.labels(row).tolist()) for row in range(len(dev))]
    expected = torch.cat(rows, dim=1).mean(dim=1)
    for seconds in (3.0, 100.0):
        found = measure_contexts(model, dev, ALONE, seconds)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_each_batch_of_a_mean_context_and_of_a_perplexity_is_a_sign_of_progress(
    make_recipe, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(make_recipe())
    dev = load_dev_utterances(corpus, load_tokenizer(make_recipe(), corpus))
    notes: list[int] = []
    with follow_progress(lambda: notes.append(1)):
        measure_contexts(model, dev, ALONE, 3.0)
        assert len(notes) == len(list(make_scoring_batches(dev, 3.0, 0, 1))) > 1
        notes.clear()
        monkeypatch.setattr(ilm_estimators, "TEXTS_IN_A_BATCH", 2)
        mean_perplexity(model, dev, None, ALONE)
    assert len(notes) == -(-len(dev) // 2) > 1


def test_without_a_memory_the_mean_is_the_ilm_perplexity_of_scoring(make_recipe, corpus: Corpus) -> None:
    recipe = make_recipe()
    model, tokenizer = make_model(recipe), load_tokenizer(recipe, corpus)
    dev = load_dev_utterances(corpus, tokenizer)
    scored = compute_dev_metrics(corpus, score_set(model, dev, recipe.validation, tokenizer, ALONE))
    assert mean_perplexity(model, dev, None, ALONE) == pytest.approx(scored["dev/ilm_perplexity"], rel=1e-4)


def _score(rank: int, recipe: Recipe, corpus: Corpus) -> dict[str, float]:
    return score_estimators(make_model(recipe), corpus, load_tokenizer(recipe, corpus), current_context(), 10.0)


def test_two_workers_measure_what_one_does_on_dev_and_each_test_set(make_recipe, corpus: Corpus, worker_pair) -> None:
    alone = _score(0, make_recipe(), corpus)
    sets = ["dev", *(f"test/{name}" for name in corpus.set_names("test"))]
    estimators = ("zeroed", "mean_context")
    assert alone.keys() == {f"{name}/ilm_perplexity_{estimator}" for name in sets for estimator in estimators}
    assert len({round(value, 3) for value in alone.values()}) == len(alone), "they differ"
    first, second = worker_pair.run(_score, make_recipe(), corpus)
    assert first == second == pytest.approx(alone, rel=1e-4)
