"""The search for a decoding on the dev sets: what is tried, within which time, and that its figures are right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_runs import ALONE

from model.corpora.corpus import Corpus
from model.data.recipe_inputs import load_tokenizer
from model.errors import OutOfMemoryError, UserError
from model.evaluation import decoding_search
from model.evaluation.decoding_search import (
    DecodingSearch,
    TriedDecoding,
    best_decoding,
    encode_sets,
    estimate_seconds,
    list_stages,
    plan_stage,
    search_decoding,
)
from model.evaluation.error_rates import Edits, sum_edits
from model.evaluation.metrics import compute_dev_metrics, dev_error_rates
from model.evaluation.scoring import load_dev_utterances, score_set
from model.network.recogniser import EncoderOutput, Recogniser
from model.recipe.decoding import DecodingConfig, DecodingSearchConfig
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context

SETTINGS = DecodingSearchConfig(share=0.1, ctc_weight=(0.0, 0.5), beam=(2, 3), length_penalty=(0.5, 1.0))
START = DecodingConfig(beam=1, ctc_weight=0.3)


def make_model(recipe: Recipe) -> Recogniser:
    """An untrained model whose hypotheses differ with the decoding."""
    torch.manual_seed(3)
    model = Recogniser(recipe).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def search(recipe: Recipe, corpus: Corpus, seconds: float, settings: DecodingSearchConfig = SETTINGS) -> DecodingSearch:
    tokenizer = load_tokenizer(recipe, corpus)
    dev = load_dev_utterances(corpus, tokenizer)
    return search_decoding(make_model(recipe), dev, START, settings, tokenizer, current_context(), seconds)


def run_search(recipe: Recipe, corpus: Corpus, seconds: float) -> list[TriedDecoding]:
    return search(recipe, corpus, seconds).tried


def test_each_decoding_scores_what_scoring_the_sets_with_it_scores(make_recipe, corpus: Corpus) -> None:
    recipe = make_recipe()
    tried = run_search(recipe, corpus, 1000.0)
    assert [(one.decoding.beam, one.decoding.ctc_weight) for one in tried[:3]] == [(1, 0.3), (1, 0.5), (1, 0.0)]
    assert {one.decoding.beam for one in tried} == {1, 2, 3}
    model, tokenizer = make_model(recipe), load_tokenizer(recipe, corpus)
    dev = load_dev_utterances(corpus, tokenizer)
    for one in tried:
        scored = score_set(model, dev, one.decoding, tokenizer, ALONE)
        metrics = compute_dev_metrics(corpus, scored)
        rates = dev_error_rates(corpus, one.sets)
        assert rates == {name: metrics[name] for name in rates}
    assert len({one.words for one in tried}) > 2, "they differ"


def test_without_time_the_first_decoding_alone_is_tried(make_recipe, corpus: Corpus) -> None:
    assert [one.decoding for one in run_search(make_recipe(), corpus, 0.0)] == [START]


def test_a_stage_that_would_take_longer_than_what_is_left_ends_the_search(
    make_recipe, corpus: Corpus, monkeypatch
) -> None:
    now = [0.0]

    def decode(stage, model, batches, dev, decoding, tokenizer, context) -> TriedDecoding:
        seconds = float(decoding.beam)
        now[0] += seconds
        return TriedDecoding(stage, decoding, {"dev": Edits(1, 0, 0, 10)}, seconds)

    monkeypatch.setattr(decoding_search, "_try", decode)
    monkeypatch.setattr(decoding_search.time, "monotonic", lambda: now[0])
    # Three greedy ones take 3 s, two with beam 2 take 4 s: nothing of a stage is tried where not all of it fits.
    greedy = ["start", "CTC weight 0.5", "CTC weight 0"]
    for seconds, stages in ((2.5, greedy[:2]), (6.5, greedy), (7.5, [*greedy, "beam 2"])):
        now[0] = 0.0
        tried = run_search(make_recipe(), corpus, seconds)
        assert list(dict.fromkeys(one.stage for one in tried)) == stages
        assert now[0] <= seconds


def _search_on_two(rank: int, recipe: Recipe, corpus: Corpus) -> list[TriedDecoding]:
    return run_search(recipe, corpus, 1000.0)


def test_two_workers_find_what_one_does(make_recipe, corpus: Corpus, worker_pair) -> None:
    alone = run_search(make_recipe(), corpus, 1000.0)
    first, second = worker_pair.run(_search_on_two, make_recipe(), corpus)
    assert first == second
    assert [(one.decoding, one.sets) for one in first] == [(one.decoding, one.sets) for one in alone]


def test_the_states_are_those_of_the_encoder_for_each_utterance(make_recipe, corpus: Corpus) -> None:
    recipe = make_recipe()
    model, tokenizer = make_model(recipe), load_tokenizer(recipe, corpus)
    dev = load_dev_utterances(corpus, tokenizer)
    with torch.inference_mode():
        batches = encode_sets(model, dev, DecodingConfig(batch_seconds=20.0), ALONE)
        assert sorted(row for batch in batches for row in batch.rows) == list(range(len(dev)))
        for batch in batches:
            for place, row in enumerate(batch.rows):
                features = dev.features(row)
                alone: EncoderOutput = model.encode(features[None], torch.tensor([len(features)]))
                states = batch.states[place, : int(batch.lengths[place])]
                torch.testing.assert_close(states, alone.states[0], atol=1e-4, rtol=1e-3)


def test_a_batch_that_does_not_fit_is_split_and_a_single_utterance_fails(
    make_recipe, corpus: Corpus, monkeypatch
) -> None:
    sizes: list[int] = []

    def search_or_fail(model, encoded, *others, search=decoding_search.beam_search, **named):
        sizes.append(len(encoded.states))
        if len(encoded.states) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return search(model, encoded, *others, **named)

    most = [1]
    expected = run_search(make_recipe(), corpus, 0.0)
    monkeypatch.setattr(decoding_search, "beam_search", search_or_fail)
    assert run_search(make_recipe(), corpus, 0.0)[0].words == expected[0].words
    assert max(sizes) > 1 == min(sizes)
    most[0] = 0
    with pytest.raises(
        OutOfMemoryError, match=r"out of memory in decoding with beam 1 \(CUDA out of memory\); lower dec"
    ):
        run_search(make_recipe(), corpus, 0.0)


def test_auxiliary_classifiers_are_mixed_in_as_the_loss_weighs_them_and_a_model_without_any_does_that_stage_too(
    make_recipe, corpus: Corpus
) -> None:
    settings = DecodingSearchConfig(ctc_weight=(0.0,), beam=(), length_penalty=(), mixing=(0.5,))
    without = search(make_recipe(), corpus, 1000.0, settings)
    assert without.stages == ["start", "CTC weight 0", "mixing", "length penalty"]
    assert [one.stage for one in without.tried] == ["start", "CTC weight 0"]
    recipe = make_recipe({"decoder.layers": 3, "loss.auxiliary": {"placement": [1, 2], "weights": [0.1, 0.3]}})
    *_, mixed = search(recipe, corpus, 1000.0, settings).tried
    assert (mixed.stage, mixed.decoding.mixing) == ("mixing", pytest.approx((0.125, 0.375, 0.5)))
    tokenizer = load_tokenizer(recipe, corpus)
    dev = load_dev_utterances(corpus, tokenizer)
    scored = score_set(make_model(recipe), dev, mixed.decoding, tokenizer, ALONE)
    assert mixed.words == sum_edits(one.words for one in scored)


@given(st.data())
def test_the_stages_try_nothing_twice_and_the_best_has_the_fewest_errors(data: st.DataObject) -> None:
    settings = DecodingSearchConfig(
        share=0.1,
        ctc_weight=tuple(data.draw(st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6]), max_size=4))),
        beam=tuple(data.draw(st.lists(st.integers(2, 6), max_size=3))),
        length_penalty=tuple(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=3))),
        mixing=tuple(data.draw(st.lists(st.sampled_from([0.1, 0.3]), max_size=3))),
    )
    auxiliary = data.draw(st.sampled_from([(), (0.4,), (0.2, 0.1)]))
    tried: list[TriedDecoding] = []
    for stage in list_stages(settings):
        for decoding in plan_stage(stage, START, settings, tried, auxiliary):
            tried.append(TriedDecoding(stage, decoding, {"dev": Edits(data.draw(st.integers(0, 9)), 0, 0, 10)}, 1.0))
    decodings = [one.decoding for one in tried]
    assert all(decoding not in decodings[:number] for number, decoding in enumerate(decodings))
    best = best_decoding(tried)
    assert tried[0].decoding == START
    assert all(best.words.errors <= one.words.errors for one in tried)
    assert all(best.decoding.beam <= one.decoding.beam for one in tried if one.words.errors == best.words.errors)


def test_beams_are_tried_with_the_two_best_ctc_weights_and_penalties_with_the_best_beam() -> None:
    errors = {(1, 0.3): 5, (1, 0.0): 9, (1, 0.5): 4, (2, 0.5): 3, (2, 0.3): 4, (3, 0.5): 3, (3, 0.3): 2}
    tried: list[TriedDecoding] = []
    for stage in list_stages(SETTINGS):
        for decoding in plan_stage(stage, START, SETTINGS, tried):
            count = errors.get((decoding.beam, decoding.ctc_weight), 9)
            tried.append(TriedDecoding(stage, decoding, {"dev": Edits(count, 0, 0, 10)}, 1.0))
    found = [(one.stage, one.decoding.beam, one.decoding.ctc_weight, one.decoding.length_penalty) for one in tried]
    penalty = START.length_penalty
    greedy = [("start", 1, 0.3, penalty), ("CTC weight 0.5", 1, 0.5, penalty), ("CTC weight 0", 1, 0.0, penalty)]
    beams = [(f"beam {beam}", beam, weight, penalty) for beam in (2, 3) for weight in (0.5, 0.3)]
    assert found == [*greedy, *beams, ("length penalty", 3, 0.3, 0.5)], "that of 1.0 is known"


def test_a_larger_beam_is_expected_to_take_longer_in_proportion() -> None:
    decodings = [START.model_copy(update={"beam": beam}) for beam in (1, 4)]
    tried = [TriedDecoding("start", one, {"dev": Edits(0, 0, 0, 1)}, 3.0 * one.beam) for one in decodings]
    assert estimate_seconds(START.model_copy(update={"beam": 8}), tried) == 24.0
    assert estimate_seconds(START, tried) == 3.0


def test_the_settings_refuse_a_beam_that_is_tried_greedily(make_recipe) -> None:
    with pytest.raises(UserError, match=r"'decoding_search.beam.0' is 1; input should be greater than or equal to 2"):
        make_recipe({"decoding_search.beam": [1]})
