"""The part of the dev sets that is scored after each epoch: which utterances, whatever their order in the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.corpus import Corpus, SetInfo
from model.data.features import FeatureStore
from model.data.recipe_inputs import load_tokenizer
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, UtteranceSet
from model.errors import UserError
from model.evaluation.dev_part import check_part, choose_part
from model.evaluation.scoring import load_dev_utterances, score_set
from model.network.recogniser import Recogniser
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training.prepare import prepare

Texts = dict[str, dict[str, str]]  # set -> id -> reference


def make_utterances(sets: Texts) -> Utterances:
    """Utterances without features and labels."""
    made = []
    for name, texts in sets.items():
        samples, columns = np.full(len(texts), 16_000), {"id": list(texts), "text": list(texts.values())}
        starts, features = np.zeros(len(texts) + 1, dtype=int), FeatureStore(Path(), samples)
        nothing = Corpus(Path(), "", "", "", {}, "", "")
        made.append(UtteranceSet(nothing, name, 1.0, pa.table(columns), samples, starts[:0], starts, features))
    return Utterances(made)


def ids_of(utterances: Utterances) -> list[str]:
    return [utterances.id(row) for row in range(len(utterances))]


def number(sizes: list[int]) -> Texts:
    return {f"dev-{place}": {f"{place}-{one}": "a word" for one in range(size)} for place, size in enumerate(sizes)}


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(SIZES, st.data())
def test_each_set_has_a_share_in_proportion_to_its_size_and_at_least_one(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    part = choose_part(make_utterances(number(sizes)), count)
    names = [part.set_name(row) for row in range(len(part))]
    counts = [names.count(f"dev-{place}") for place in range(len(sizes))]
    assert sum(counts) == count
    assert min(counts) >= 1
    # No utterance more in one set and one less in another would be nearer to the sizes: Sainte-Laguë's condition.
    taken = [(count - 0.5) / size for count, size in zip(counts, sizes, strict=True) if count > 1]
    left = [(count + 0.5) / size for count, size in zip(counts, sizes, strict=True) if count < size]
    assert max(taken, default=0.0) <= min(left, default=1.0)


@given(SIZES, st.data())
def test_a_larger_part_holds_all_of_a_smaller_one(sizes: list[int], data: st.DataObject) -> None:
    counts = st.integers(len(sizes), sum(sizes))
    smaller, larger = sorted((data.draw(counts), data.draw(counts)))
    dev = make_utterances(number(sizes))
    assert set(ids_of(choose_part(dev, smaller))) <= set(ids_of(choose_part(dev, larger)))


@given(SIZES, st.randoms(use_true_random=False), st.data())
def test_the_order_of_the_files_does_not_count(sizes: list[int], random, data: st.DataObject) -> None:
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    sets = number(sizes)
    shuffled = {name: dict(random.sample(list(texts.items()), len(texts))) for name, texts in sets.items()}
    shuffled = dict(random.sample(list(shuffled.items()), len(shuffled)))
    ours, theirs = (choose_part(make_utterances(one), count) for one in (sets, shuffled))
    assert sorted(ids_of(ours)) == sorted(ids_of(theirs))


def test_it_is_not_simply_the_first_ones() -> None:
    part = ids_of(choose_part(make_utterances(number([100])), 10))
    assert part != [f"0-{one}" for one in range(10)]


@given(st.integers(0, 9), st.integers(1, 10))
def test_a_set_with_a_word_keeps_one_in_its_part(spoken: int, count: int) -> None:
    texts = {f"utterance-{one}": "word" if one == spoken else " " for one in range(10)}
    part = choose_part(make_utterances({"dev": texts}), count)
    assert f"utterance-{spoken}" in ids_of(part), "else there is no error rate"


def test_without_a_number_or_with_one_that_is_large_enough_it_is_all_of_them() -> None:
    dev = make_utterances(number([3, 2]))
    assert all(choose_part(dev, count) is dev for count in (None, 5, 9))


def test_what_is_selected_is_what_the_set_has_in_these_rows(corpus: Corpus, make_recipe) -> None:
    dev = load_dev_utterances(corpus, load_tokenizer(make_recipe(), corpus))
    rows = np.array([7, 2, 11])
    part = dev.select(rows)
    assert len(part) == 3
    for place, row in enumerate(rows):
        for read in (Utterances.id, Utterances.text, Utterances.speaker, Utterances.set_name):
            assert read(part, place) == read(dev, row)
        assert (part.labels(place) == dev.labels(row)).all()
        assert torch.equal(part.features(place), dev.features(row))
        assert torch.equal(part.waveform(place), dev.waveform(row))
    for lengths in ("seconds", "frames", "label_counts"):
        assert (getattr(part, lengths) == getattr(dev, lengths)[rows]).all()
    assert (part.find_ctc_alignable() == dev.find_ctc_alignable()[rows]).all()
    assert ids_of(part.select(np.array([2, 0]))) == [dev.id(11), dev.id(7)]


def _score(rank: int, recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, count: int) -> list[str]:
    torch.manual_seed(0)
    part = choose_part(load_dev_utterances(corpus, tokenizer), count)
    scored = score_set(Recogniser(recipe), part, recipe.validation, tokenizer, current_context())
    return [repr(replace(one, nll=0.0, ilm_nll=0.0, layer_nll=())) for one in scored]  # sums of floats differ in order


def test_two_workers_score_what_one_does_even_where_one_of_them_has_nothing(
    make_recipe, corpus: Corpus, worker_pair
) -> None:
    recipe = make_recipe()
    one = corpus.sets["dev"]
    alone = replace(corpus, sets={"dev": one})
    given = recipe, alone, load_tokenizer(recipe, corpus), 1
    expected = _score(0, *given)
    assert len(expected) == 1
    assert worker_pair.run(_score, *given) == [expected, expected]


def test_fewer_utterances_than_dev_sets_are_refused_before_anything_trains(make_recipe, corpus: Corpus) -> None:
    recipe = make_recipe({"validation.utterances": 2})
    with pytest.raises(
        UserError,
        match=r"^validation.utterances is 2, but corpus .* has 3 dev sets, .* give at least 3, or null for all",
    ):
        prepare(recipe)
    one = replace(corpus, sets={"dev": SetInfo(role="dev", utterances=9, seconds=9.0)})
    check_part(recipe, one)


def test_it_counts_in_the_hash_of_a_recipe_only_where_it_is_set(make_recipe) -> None:
    recipe = make_recipe()
    assert with_values(recipe, {"validation.utterances": None}).hash == recipe.hash
    part = with_values(recipe, {"validation.utterances": 9})
    assert part.hash != recipe.hash
    assert part.validation.content == recipe.validation.content, "hypotheses are searched alike"
    assert with_values(recipe, {"validation.ilm_estimators": ["zeroed"]}).hash == recipe.hash
