from __future__ import annotations

import pytest
import torch

from model.data.batches import TrainingSet, scoring_batches, utterances_of
from model.data.features import feature_store
from model.data.frontend import FRAMES_PER_SECOND, features
from model.training.prepare import tokenizer_of


@pytest.fixture
def training_set(corpus, make_recipe):
    def make(**values):
        recipe = make_recipe({f"data.{key}": value for key, value in values.items()})
        return TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer_of(recipe, corpus))

    return make


def test_an_epoch_has_every_utterance_once_in_batches_no_longer_than_asked(training_set) -> None:
    training = training_set()
    plan = training.plan(0)
    assert sorted(one for batch in plan for one in batch) == sorted(training.cuts.ids)
    durations = {cut.id: cut.duration for cut in training.cuts}
    assert all(max(durations[one] for one in batch) * len(batch) <= 12.0 for batch in plan)


def test_the_order_is_a_function_of_seed_and_epoch_alone(training_set) -> None:
    assert training_set().plan(3) == training_set().plan(3)
    assert training_set().plan(3) != training_set().plan(4)
    assert training_set().plan(3) != training_set(seed=1).plan(3)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_shares_of_all_workers_are_the_batch(training_set, world: int) -> None:
    training = training_set()
    for batch in training.plan(0):
        shares = [training.share(batch, rank, world, 2, seed=0) for rank in range(world)]
        scored = [part for share in shares for part in share if (part.labels >= 0).any()]
        assert sorted(one for part in scored for one in part.ids) == sorted(batch)
        assert {part.counts.utterances for part in scored} == {len(batch)}
        assert {part.counts.tokens for part in scored} == {sum(int((p.labels >= 0).sum()) for p in scored)}


def test_a_worker_without_an_utterance_still_takes_the_step(training_set) -> None:
    training = training_set()
    alone = training.plan(0)[0][:1]
    (part,) = training.share(alone, rank=1, world=2, parts=2, seed=0)
    assert (part.labels == -100).all()
    assert part.counts.utterances == 1


def test_an_utterance_is_augmented_the_same_on_any_worker(training_set) -> None:
    training = training_set()
    batch = training.plan(0)[0]
    whole = training.share(batch, 0, 1, 1, seed=5)[0]
    second = training.share(batch, 1, 2, 1, seed=5)[0]
    for index, one in enumerate(second.ids):
        frames = int(second.lengths[index])
        assert torch.equal(second.features[index, :frames], whole.features[whole.ids.index(one), :frames])


def test_what_is_left_out_is_counted(training_set) -> None:
    training = training_set(longest_seconds=1.8)
    left_out = training.left_out["longer than data.longest_seconds"]
    assert left_out > 0
    assert len(training.cuts) == 24 - left_out


def test_every_speed_is_a_copy_of_the_training_set(training_set) -> None:
    training = training_set(speeds=[0.9, 1.0, 1.1])
    assert len(training.cuts) + sum(training.left_out.values()) == 3 * 24
    slow = next(cut for cut in training.cuts if cut.id.endswith("_sp0.9"))
    plain = next(cut for cut in training.cuts if cut.id == slow.id.removesuffix("_sp0.9"))
    assert training.utterances.length(slow.id) == pytest.approx(training.utterances.length(plain.id) / 0.9, abs=3)
    assert training.utterances.texts[slow.id] == training.utterances.texts[plain.id]


def test_scoring_batches_share_a_set_among_workers_within_the_limit(corpus, make_recipe) -> None:
    _, utterances = utterances_of(corpus, "train", 1.0, tokenizer_of(make_recipe(), corpus))
    batches = [list(scoring_batches(utterances, 8.0, rank, 2)) for rank in range(2)]
    ids = [one for share in batches for batch in share for one in batch.ids]
    assert sorted(ids) == sorted(utterances.texts)
    for batch in (one for share in batches for one in share):
        assert len(batch.ids) == 1 or batch.features.shape[0] * batch.features.shape[1] <= 8.0 * FRAMES_PER_SECOND


def test_cached_features_are_those_of_the_audio(corpus) -> None:
    store = feature_store(corpus, "dev")
    for cut in corpus.cuts("dev"):
        fresh = features(torch.from_numpy(cut.load_audio()[0]))
        torch.testing.assert_close(store[cut.id], fresh, atol=5e-3, rtol=1e-3)  # float16 on disk
