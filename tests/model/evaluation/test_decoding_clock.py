"""The real-time factor counts the decoding of every utterance once, and nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import torch
from training_runs import ALONE

from model.corpora.corpus import Corpus
from model.data.recipe_inputs import load_tokenizer
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances
from model.evaluation import decoding_clock, scoring
from model.evaluation.decoding_clock import DecodingClock
from model.evaluation.scoring import load_dev_utterances, score_set
from model.network.recogniser import Recogniser
from model.recipe.decoding import ValidationConfig
from model.runtime.distributed import DistributedContext

CPU = torch.device("cpu")
DECODING = ValidationConfig(batch_seconds=6.0)


class ManualTime:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass(frozen=True)
class BesideAnother(DistributedContext):
    """Rank 0 of 2; the other one decoded 6 s of audio in 3 s."""

    def sum_over_ranks(self, values: list[float]) -> list[float]:
        return [ours + theirs for ours, theirs in zip(values, (3.0, 6.0), strict=True)]


@pytest.fixture
def clock_time(monkeypatch: pytest.MonkeyPatch) -> ManualTime:
    manual = ManualTime()
    monkeypatch.setattr(decoding_clock, "time", manual)
    return manual


@pytest.fixture(scope="module")
def scene(make_recipe, corpus: Corpus) -> tuple[Recogniser, Utterances, Tokenizer]:
    recipe = make_recipe()
    tokenizer = load_tokenizer(recipe, corpus)
    return Recogniser(recipe).eval(), load_dev_utterances(corpus, tokenizer), tokenizer


def test_seconds_and_audio_are_summed_over_ranks_before_they_are_divided(clock_time: ManualTime) -> None:
    clock = DecodingClock()
    for seconds, audio in ((1.0, 10.0), (0.5, 2.0)):
        with clock.measure(audio, CPU):
            clock_time.now += seconds
        clock_time.now += 100.0
    assert clock.find_real_time_factor(ALONE) == pytest.approx(1.5 / 12.0)
    assert clock.find_real_time_factor(BesideAnother(0, 2, CPU)) == pytest.approx(4.5 / 18.0)


def test_what_fails_is_not_counted(clock_time: ManualTime) -> None:
    clock = DecodingClock()

    def fail() -> None:
        with clock.measure(10.0, CPU):
            clock_time.now += 5.0
            raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        fail()
    assert (clock.seconds, clock.audio_seconds) == (0.0, 0.0)


@pytest.mark.parametrize("largest", [100, 1])
def test_scoring_counts_each_utterance_once_also_where_batches_do_not_fit(
    scene: tuple[Recogniser, Utterances, Tokenizer], monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    model, dev, tokenizer = scene

    def search(model, encoded, *others, search=scoring.beam_search):
        if len(encoded.lengths) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return search(model, encoded, *others)

    monkeypatch.setattr(scoring, "beam_search", search)
    clock, began = DecodingClock(), time.perf_counter()
    score_set(model, dev, DECODING, tokenizer, ALONE, clock)
    assert clock.audio_seconds == pytest.approx(dev.seconds.sum())
    assert 0.0 < clock.seconds < time.perf_counter() - began


def test_encoder_and_search_are_counted_and_likelihoods_are_not(
    scene: tuple[Recogniser, Utterances, Tokenizer], clock_time: ManualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dev, tokenizer = scene
    batches = []

    def lasting(seconds: float, function):
        def call(*arguments, **options):
            clock_time.now += seconds
            return function(*arguments, **options)

        return call

    def count(*arguments, make=scoring.make_scoring_batches):
        for batch in make(*arguments):
            batches.append(batch)
            clock_time.now += 1000.0
            yield batch

    monkeypatch.setattr(scoring, "make_scoring_batches", count)
    for name, seconds in (("encode", 1.0), ("beam_search", 2.0), ("decode_ctc_greedy", 10.0), ("_nll", 20.0)):
        monkeypatch.setattr(scoring, name, lasting(seconds, getattr(scoring, name)))
    clock = DecodingClock()
    score_set(model, dev, DECODING, tokenizer, ALONE, clock)
    assert len(batches) > 1
    assert clock.seconds == pytest.approx(3.0 * len(batches))
