from __future__ import annotations

import pytest
import torch

from model.data.batches import TOO_LONG, TrainingSet, make_scoring_batches
from model.data.features import open_feature_store
from model.data.frontend import FRAMES_PER_SECOND, extract_features
from model.data.utterances import load_utterances
from model.training.prepare import load_tokenizer

MASKS = {"augmentation.time_masks": 2, "augmentation.frequency_masks": 2}


@pytest.fixture
def make_training_set(corpus, make_recipe):
    def make(values=None, share=1.0):
        recipe = make_recipe(values)
        return TrainingSet(corpus, recipe.data, recipe.augmentation, load_tokenizer(recipe, corpus), share)

    return make


@pytest.mark.parametrize("buckets", [1, 2, 24, 100])
def test_an_epoch_has_every_utterance_once_in_batches_within_the_limit(make_training_set, buckets: int) -> None:
    training_set = make_training_set({"data.buckets": buckets})
    plan = training_set.plan_pass(0)
    assert sorted(key for batch in plan for key in batch) == sorted(training_set.cuts.ids)
    durations = {cut.id: cut.duration for cut in training_set.cuts}
    assert all(max(durations[key] for key in batch) * len(batch) <= 12.0 for batch in plan)


@pytest.mark.parametrize("buckets", [1, 2])
def test_the_order_is_a_function_of_seed_and_epoch_alone(make_training_set, buckets: int) -> None:
    values = {"data.buckets": buckets}
    plan = make_training_set(values).plan_pass(3)
    assert make_training_set(values).plan_pass(3) == plan
    assert make_training_set(values).plan_pass(4) != plan
    assert make_training_set(values | {"data.seed": 1}).plan_pass(3) != plan


def test_one_bucket_has_batches_of_any_length_and_more_have_less_padding(make_training_set) -> None:
    padding = []
    for buckets in (1, 6):
        training_set = make_training_set({"data.buckets": buckets, "data.batch_seconds": 24.0})
        durations = {cut.id: cut.duration for cut in training_set.cuts}
        batches = [[durations[key] for key in batch] for batch in training_set.plan_pass(0)]
        padding.append(sum(max(batch) * len(batch) - sum(batch) for batch in batches))
    assert padding[0] > padding[1]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_shares_of_all_workers_are_the_batch(make_training_set, world_size: int) -> None:
    training_set = make_training_set()
    for batch in training_set.plan_pass(0):
        shares = [training_set.load_share(batch, rank, world_size, 2, draw="0/0") for rank in range(world_size)]
        scored = [part for share in shares for part in share if (part.labels >= 0).any()]
        assert sorted(key for part in scored for key in part.ids) == sorted(batch)
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
        assert torch.equal(second.features[index, :frames], whole.features[row, :frames])
        assert not torch.equal(second.features[index, :frames], training_set.utterances.features(key))
    assert not torch.equal(whole.features, other.features)


def test_skipped_utterances_are_counted(make_training_set) -> None:
    training_set = make_training_set({"data.longest_seconds": 1.8})
    skipped = training_set.skipped[TOO_LONG]
    assert skipped > 0
    assert len(training_set.cuts) == 24 - skipped


def test_every_speed_is_a_copy_of_the_training_set(make_training_set) -> None:
    training_set = make_training_set({"data.speeds": [0.9, 1.0, 1.1]})
    assert len(training_set.cuts) + sum(training_set.skipped.values()) == 3 * 24
    slow = next(cut for cut in training_set.cuts if cut.id.endswith("_sp0.9"))
    plain = next(cut for cut in training_set.cuts if cut.id == slow.id.removesuffix("_sp0.9"))
    frame_count = training_set.utterances.frame_count
    assert frame_count(slow.id) == pytest.approx(frame_count(plain.id) / 0.9, abs=3)
    assert training_set.utterances.texts[slow.id] == training_set.utterances.texts[plain.id]


def plain_ids(training_set: TrainingSet, speed: float) -> set[str]:
    """The utterances that are used at a speed, by their ids in the corpus."""
    copies = [key for key in training_set.cuts.ids if "_sp" in key] if speed != 1.0 else training_set.cuts.ids
    ending = "" if speed == 1.0 else f"_sp{speed}"
    return {key.removesuffix(ending) for key in copies if key.endswith(ending) and (ending or "_sp" not in key)}


def test_a_share_of_the_data_has_the_same_utterances_at_all_speeds_and_in_all_larger_shares(make_training_set) -> None:
    smaller: set[str] = set()
    for share, count in ((0.25, 6), (0.5, 12), (1.0, 24)):
        training_set = make_training_set({"data.speeds": [0.9, 1.0, 1.1]}, share)
        ids = plain_ids(training_set, 1.0)
        assert len(ids) == count
        assert plain_ids(training_set, 0.9) == plain_ids(training_set, 1.1) == ids >= smaller
        assert sorted(key for batch in training_set.plan_pass(0) for key in batch) == sorted(training_set.cuts.ids)
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


def test_scoring_batches_share_a_set_among_workers_within_the_limit(corpus, make_recipe) -> None:
    _, utterances = load_utterances(corpus, "train", 1.0, load_tokenizer(make_recipe(), corpus))
    shares = [list(make_scoring_batches(utterances, 8.0, rank, 2)) for rank in range(2)]
    batches = [batch for share in shares for batch in share]
    assert sorted(key for batch in batches for key in batch.ids) == sorted(utterances.texts)
    assert any(len(batch.ids) > 1 for batch in batches)
    for batch in batches:
        assert len(batch.ids) == 1 or batch.features.shape[0] * batch.features.shape[1] <= 8.0 * FRAMES_PER_SECOND


def test_cached_features_are_those_of_the_audio(corpus) -> None:
    store = open_feature_store(corpus, "dev")
    for cut in corpus.cuts("dev"):
        fresh = extract_features(torch.from_numpy(cut.load_audio()[0]))
        torch.testing.assert_close(store[cut.id], fresh, atol=5e-3, rtol=1e-3)  # float16 on disk
