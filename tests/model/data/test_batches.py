from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from recordings import write_segments

from model.corpora.corpus import Corpus
from model.corpora.preparation import Preparation, prepare_corpus
from model.corpora.source import Source
from model.data.batches import TOO_LONG, TrainingSet, make_scoring_batches
from model.data.frontend import FRAMES_PER_SECOND
from model.data.recipe_inputs import load_tokenizer
from model.data.utterances import load_utterances

MASKS = {"augmentation.time_masks": 2, "augmentation.frequency_masks": 2}


@pytest.fixture
def make_training_set(corpus, make_recipe):
    def make(values=None, share=1.0):
        recipe = make_recipe(values)
        return TrainingSet(corpus, recipe.data, recipe.augmentation, load_tokenizer(recipe, corpus), share)

    return make


def plan_ids(training_set: TrainingSet, data_pass: int) -> list[list[str]]:
    return [[training_set.utterances.id(row) for row in rows] for rows in training_set.plan_pass(data_pass)]


def rows_by_id(training_set: TrainingSet) -> dict[str, int]:
    """The utterances that are trained on."""
    return {training_set.utterances.id(row): row for row in training_set.rows}


@pytest.mark.parametrize("buckets", [1, 2, 24, 100])
def test_an_epoch_has_every_utterance_once_in_batches_within_the_limit(make_training_set, buckets: int) -> None:
    training_set = make_training_set({"data.buckets": buckets})
    plan = training_set.plan_pass(0)
    assert sorted(np.concatenate(plan)) == training_set.rows.tolist()
    seconds = training_set.utterances.seconds
    assert all(seconds[rows].max() * len(rows) <= 12.0 for rows in plan)


@pytest.mark.parametrize("buckets", [1, 2])
def test_the_order_is_a_function_of_seed_and_epoch_alone(make_training_set, buckets: int) -> None:
    values = {"data.buckets": buckets}
    plan = plan_ids(make_training_set(values), 3)
    assert plan_ids(make_training_set(values), 3) == plan
    assert plan_ids(make_training_set(values), 4) != plan
    assert plan_ids(make_training_set(values | {"data.seed": 1}), 3) != plan


def test_one_bucket_has_batches_of_any_length_and_more_have_less_padding(make_training_set) -> None:
    padding = []
    for buckets in (1, 6):
        training_set = make_training_set({"data.buckets": buckets, "data.batch_seconds": 24.0})
        batches = [training_set.utterances.seconds[rows] for rows in training_set.plan_pass(0)]
        padding.append(sum(seconds.max() * len(seconds) - seconds.sum() for seconds in batches))
    assert padding[0] > padding[1]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_shares_of_all_workers_are_the_batch(make_training_set, world_size: int) -> None:
    training_set = make_training_set()
    for batch in training_set.plan_pass(0):
        shares = [training_set.load_share(batch, rank, world_size, 2, draw="0/0") for rank in range(world_size)]
        scored = [part for share in shares for part in share if (part.labels >= 0).any()]
        assert sorted(row for part in scored for row in part.rows) == sorted(batch)
        assert {part.counts.utterances for part in scored} == {len(batch)}
        assert {part.counts.tokens for part in scored} == {sum(int((part.labels >= 0).sum()) for part in scored)}


def test_a_worker_without_an_utterance_still_takes_the_step(make_training_set) -> None:
    training_set = make_training_set()
    batch = training_set.plan_pass(0)[0][:1]
    (part,) = training_set.load_share(batch, rank=1, world_size=2, parts=2, draw="0/0")
    assert (part.labels == -100).all()
    assert part.counts.utterances == 1


def test_an_utterance_has_the_same_masks_on_any_worker_and_other_ones_with_another_draw(make_training_set) -> None:
    training_set = make_training_set(MASKS)
    batch = training_set.plan_pass(0)[0]
    (whole,) = training_set.load_share(batch, 0, 1, 1, draw="0/5")
    (second,) = training_set.load_share(batch, 1, 2, 1, draw="0/5")
    (other,) = training_set.load_share(batch, 0, 1, 1, draw="0/6")
    assert second.ids
    for index, key in enumerate(second.ids):
        frames, row = int(second.lengths[index]), whole.ids.index(key)
        assert second.rows[index] == whole.rows[row]
        assert torch.equal(second.features[index, :frames], whole.features[row, :frames])
        assert not torch.equal(second.features[index, :frames], training_set.utterances.features(second.rows[index]))
    assert not torch.equal(whole.features, other.features)


def test_skipped_utterances_are_counted(make_training_set) -> None:
    training_set = make_training_set({"data.longest_seconds": 1.8})
    skipped = training_set.skipped[TOO_LONG]
    assert skipped > 0
    assert len(training_set.rows) == 24 - skipped


def test_every_speed_is_a_copy_of_the_training_set(make_training_set) -> None:
    training_set = make_training_set({"data.speeds": [0.9, 1.0, 1.1]})
    assert len(training_set.rows) + sum(training_set.skipped.values()) == 3 * 24
    rows = rows_by_id(training_set)
    slow = next(key for key in rows if key.endswith("_sp0.9"))
    plain = rows[slow.removesuffix("_sp0.9")]
    utterances = training_set.utterances
    assert utterances.frames[rows[slow]] == pytest.approx(utterances.frames[plain] / 0.9, abs=3)
    assert len(utterances.features(rows[slow])) == utterances.frames[rows[slow]]
    assert utterances.text(rows[slow]) == utterances.text(plain)


def plain_ids(training_set: TrainingSet, speed: float) -> set[str]:
    """The utterances that are used at a speed, by their ids in the corpus."""
    ids = list(rows_by_id(training_set))
    ending = "" if speed == 1.0 else f"_sp{speed}"
    return {key.removesuffix(ending) for key in ids if key.endswith(ending) and (ending or "_sp" not in key)}


def test_a_share_of_the_data_has_the_same_utterances_at_all_speeds_and_in_all_larger_shares(make_training_set) -> None:
    smaller: set[str] = set()
    for share, count in ((0.25, 6), (0.5, 12), (1.0, 24)):
        training_set = make_training_set({"data.speeds": [0.9, 1.0, 1.1]}, share)
        ids = plain_ids(training_set, 1.0)
        assert len(ids) == count
        assert plain_ids(training_set, 0.9) == plain_ids(training_set, 1.1) == ids >= smaller
        assert sorted(np.concatenate(training_set.plan_pass(0))) == training_set.rows.tolist()
        smaller = ids
    other = make_training_set({"data.seed": 1}, 0.25)
    assert plain_ids(other, 1.0) != plain_ids(make_training_set({}, 0.25), 1.0)


def test_a_batch_is_split_in_halves_without_padding_that_only_the_other_half_needs(make_training_set) -> None:
    training_set = make_training_set({"data.buckets": 1, "data.batch_seconds": 60.0})
    (whole,) = training_set.load_share(max(training_set.plan_pass(0), key=len), 0, 1, 1, draw="0/0")
    halves = whole.split()
    assert halves[0].ids + halves[1].ids == whole.ids
    assert abs(len(halves[0].ids) - len(halves[1].ids)) <= 1
    for half in halves:
        rows = [whole.ids.index(key) for key in half.ids]
        assert torch.equal(half.lengths, whole.lengths[rows])
        frames, labels = int(half.lengths.max()), int((half.labels >= 0).sum(dim=1).max())
        assert half.features.shape[1] == frames
        assert half.labels.shape[1] == labels
        assert torch.equal(half.features, whole.features[rows, :frames])
        assert torch.equal(half.labels, whole.labels[rows, :labels])


def test_a_temperature_and_weights_even_out_how_much_of_a_pass_each_training_set_has(
    corpus, make_recipe, tmp_path
) -> None:
    segments = write_segments(tmp_path / "in", {"train-large": 16, "train-small": 4, "dev": 1})
    small = prepare_corpus(Source("two", "two", segments), tmp_path / "out", Preparation()).corpus
    tokenizer = load_tokenizer(make_recipe(), corpus)

    def share_of_small(corpus: Corpus, temperature: float) -> float:
        data = make_recipe({"data.temperature": temperature}).data
        training_set = TrainingSet(corpus, data, make_recipe().augmentation, tokenizer)
        rows = np.concatenate([rows for data_pass in range(20) for rows in training_set.plan_pass(data_pass)])
        names = [training_set.utterances.set_name(row) for row in rows]
        assert len(names) == pytest.approx(20 * 20, abs=2)
        return names.count("train-small") / len(names)

    assert share_of_small(small, 1.0) == 0.2
    assert share_of_small(small, 2.0) == pytest.approx(2 / (2 + 4), abs=0.01)
    assert share_of_small(small, 1e6) == pytest.approx(0.5, abs=0.01)
    info = small.sets["train-small"].model_copy(update={"weight": 3.0})
    weighted = replace(small, sets={**small.sets, "train-small": info})
    assert share_of_small(weighted, 1.0) == pytest.approx(3 * 4 / (3 * 4 + 16), abs=0.01)


def test_scoring_batches_share_a_set_among_workers_within_the_limit(corpus, make_recipe) -> None:
    utterances = load_utterances(corpus, [("train", 1.0)], load_tokenizer(make_recipe(), corpus))
    shares = [list(make_scoring_batches(utterances, 8.0, rank, 2)) for rank in range(2)]
    batches = [batch for share in shares for batch in share]
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(utterances)))
    assert any(len(batch.ids) > 1 for batch in batches)
    for batch in batches:
        assert len(batch.ids) == 1 or batch.features.shape[0] * batch.features.shape[1] <= 8.0 * FRAMES_PER_SECOND
