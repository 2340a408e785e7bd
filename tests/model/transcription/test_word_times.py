"""A model that has learnt digits, on words that were spoken one by one: when they are spoken is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import model
from model.corpora.audio import resample
from model.corpora.corpus import SetKind
from model.corpora.corpus_writer import Utterance, write_corpus
from model.corpora.demo.sentences import SLOTS
from model.corpora.demo.voice import ESPEAK_RATE, Voice, speak
from model.evaluation.error_rates import word_edits
from model.network.kernels.precision import has_bf16_units
from model.recipe.architecture import SAMPLE_RATE
from model.training.loop import train
from model.training.prepare import prepare
from model.transcription.cutting import Cutting
from model.transcription.transcriber import Transcriber

pytestmark = pytest.mark.slow

NOISE = 0.003  # of full scale; words have a tenth
TRAINED = {
    "data.batch_seconds": 3.0,
    "tokenizer.vocabulary": 30,
    "encoder.width": 64,
    "encoder.heads": 2,
    "encoder.feed_forward": 128,
    "encoder.cgmlp": 128,
    "encoder.channels": 8,
    "decoder.layers": 1,
    "decoder.width": 32,
    "loss.ctc_weight": 0.9,
    "optimiser.learning_rate": 2e-3,
    "optimiser.warmup_steps": 20,
    "training.epochs": 12,
    "validation.ctc_weight": 0.9,
    "decoding.ctc_weight": 0.9,
}
Spoken = tuple[list[str], np.ndarray, list[tuple[float, float]]]  # words, samples, and when each begins and ends
Say = Callable[..., Spoken]


@pytest.fixture(scope="module")
def say() -> Say:
    """A function of a draw that speaks digits with silence around each."""
    said: dict[str, np.ndarray] = {}

    def speak_word(word: str) -> np.ndarray:
        if word not in said:
            samples = resample(speak(word, Voice("en-us", "m3", 170, 50)) / 32768.0, ESPEAK_RATE)
            loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
            samples = samples[loud[0] : loud[-1] + 1]
            said[word] = 0.1 * samples / samples.std()
        return said[word]

    def say(draw: np.random.RandomState, most: float = 0.2, fewest: int = 3) -> Spoken:
        words = [str(word) for word in draw.choice(SLOTS["digit"], draw.randint(fewest, 6))]
        parts, times, length = list[np.ndarray](), list[tuple[float, float]](), 0
        for word in words:
            silence, samples = np.zeros(int(draw.uniform(0.0, most) * SAMPLE_RATE)), speak_word(word)
            parts += [silence, samples]
            begins, length = length + len(silence), length + len(silence) + len(samples)
            times.append((begins / SAMPLE_RATE, length / SAMPLE_RATE))
        return words, np.concatenate(parts), times

    return say


def add_noise(samples: np.ndarray, draw: np.random.RandomState) -> np.ndarray:
    return np.clip(samples + NOISE * draw.standard_normal(len(samples)), -1.0, 1.0)


@pytest.fixture(scope="module")
def transcriber(say: Say, make_recipe, tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    """What a model that was trained on 120 such utterances transcribes with."""
    folder = tmp_path_factory.mktemp("digits")

    def utterances() -> Iterator[Utterance]:
        for name, count, seed in (("train", 120, 0), ("dev", 6, 1)):
            draw = np.random.RandomState(seed)
            for number in range(count):
                words, samples, _ = say(draw, fewest=1)  # short ones are aligned first
                yield Utterance(name, f"{name}-{number:03d}", " ".join(words), "m3", add_noise(samples, draw))

    write_corpus(
        folder / "corpus", "digits", "basic", {"train": SetKind(role="train"), "dev": SetKind(role="dev")}, utterances()
    )
    changes = TRAINED | {"data.corpus": str(folder / "corpus"), "data.fingerprint": None}
    train(prepare(make_recipe(changes)), folder / "run", lambda _: None)
    return model.load_transcriber(folder / "run")


def test_words_are_placed_where_they_are_spoken(transcriber: Transcriber, say: Say) -> None:
    draw, starts, ends = np.random.RandomState(2), list[float](), list[float]()
    right = 0
    for _ in range(20):
        words, samples, times = say(draw)
        found = transcriber.transcribe(add_noise(samples, draw), SAMPLE_RATE)
        if [word.text for word in found.words] != words:
            continue
        right += 1
        starts += [word.start - start for word, (start, _) in zip(found.words, times, strict=True)]
        ends += [word.end - end for word, (_, end) in zip(found.words, times, strict=True)]
    assert right >= 12
    assert np.median(np.abs(starts)) < 0.1
    assert np.median(np.abs(ends)) < 0.1
    assert max(map(abs, (*starts, *ends))) < 0.6


@pytest.mark.parametrize(("shortest", "longest"), [(0.8, 3.0), (0.6, 0.9)])
def test_a_long_recording_loses_and_doubles_no_word(
    transcriber: Transcriber, say: Say, shortest: float, longest: float
) -> None:
    draw = np.random.RandomState(3)
    said = [say(draw) for _ in range(25)]
    parts = [
        part for _, samples, _ in said for part in (np.zeros(int(draw.uniform(shortest, longest) * 16_000)), samples)
    ]
    joined = add_noise(np.concatenate(parts), draw)
    assert len(joined) > 45 * SAMPLE_RATE, "longer than a recording may be"
    alone = [
        one.text for one in (transcriber.transcribe(add_noise(samples, draw), SAMPLE_RATE) for _, samples, _ in said)
    ]
    edits = word_edits(" ".join(alone), transcriber.transcribe(joined, SAMPLE_RATE).text)
    assert edits.insertions + edits.deletions <= 0.05 * edits.length
    assert edits.errors <= 0.1 * edits.length


def test_cuts_without_a_pause_lose_few_words(transcriber: Transcriber, say: Say) -> None:
    draw = np.random.RandomState(4)
    said = [say(draw, most=0.1) for _ in range(12)]
    joined = add_noise(np.concatenate([samples for _, samples, _ in said]), draw)
    short = Transcriber(transcriber.model, transcriber.tokenizer, transcriber.decoding, Cutting(longest=4.0))
    found = short.transcribe(joined, SAMPLE_RATE)
    edits = word_edits(" ".join(" ".join(words) for words, _, _ in said), found.text)
    assert len(found.segments) >= len(joined) / SAMPLE_RATE / 4
    assert edits.errors <= 0.3 * edits.length


@pytest.mark.skipif(not has_bf16_units(torch.device("cpu")), reason="this processor has no bf16 units")
def test_an_encoder_in_bf16_changes_the_error_rate_by_less_than_noise(transcriber: Transcriber, say: Say) -> None:
    decodings = [transcriber.decoding.model_copy(update={"encoder_precision": name}) for name in ("fp32", "bf16")]
    fp32, bf16 = (dataclasses.replace(transcriber, decoding=decoding) for decoding in decodings)
    draw = np.random.RandomState(4)
    differences, words = list[int](), 0
    for _ in range(60):
        said, samples, _ = say(draw)
        samples = add_noise(samples, draw)
        errors = [word_edits(" ".join(said), one.transcribe(samples, SAMPLE_RATE).text).errors for one in (fp32, bf16)]
        differences.append(errors[1] - errors[0])
        words += len(said)
    # Two standard errors of a sum of paired differences, and where nothing differs one word.
    noise = 2 * np.sqrt(np.square(differences).sum()) or 1
    assert abs(sum(differences)) <= noise
    assert sum(map(abs, differences)) <= 0.03 * words
