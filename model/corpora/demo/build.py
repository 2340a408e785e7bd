"""Building the demo corpus: sentences, spoken by many voices, with mild noise. Equal arguments, equal fingerprint."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from model.corpora.audio import resample
from model.corpora.corpus import CORPUS_FILE, Corpus, SetKind, read_corpus
from model.corpora.corpus_writer import Utterance, check_replaceable, write_corpus
from model.corpora.demo.sentences import demo_sentences
from model.corpora.demo.voice import ESPEAK_RATE, Voice, check_espeak, speak
from model.errors import UserError

VERSION = 4  # raised whenever the same arguments make another corpus
NAME = "demo"
NORMALISER = "basic"

KINDS = {
    "train": SetKind(role="train"),
    "dev": SetKind(role="dev"),
    "dev-ood-text": SetKind(role="dev", domain="out"),
    "dev-ood-voice": SetKind(role="dev", domain="out"),
    "test-in": SetKind(role="test"),
    "test-ood-text": SetKind(role="test", domain="out"),
    "test-ood-voice": SetKind(role="test", domain="out"),
}

RATES = (170, 190, 210)  # words per minute
PITCHES = (35, 50, 65)
TRAINING_VARIANTS = ("m1", "m3", "m7", "f2", "f4", "Annie", "max", "linda")
UNSEEN_VARIANTS = ("m2", "f1", "f5", "edward")
TRAINING_VOICES = [(accent, variant) for accent in ("en-us", "en-gb-x-rp") for variant in TRAINING_VARIANTS]
UNSEEN_VOICES = [(accent, variant) for accent in ("en-gb-scotland", "en-029") for variant in UNSEEN_VARIANTS]

SIGNAL_TO_NOISE = (15.0, 35.0)  # dB, drawn for each utterance
LOUDNESS = (-9.0, 0.0)  # dB, drawn for each utterance


def make_demo(
    folder: Path,
    seed: int = 0,
    train_utterances: int = 500,
    dev_utterances: int = 60,
    test_utterances: int = 80,
) -> Corpus:
    """The demo corpus in `folder`, which is left as it is when it already holds the same one.

    `dev_utterances` is the size of each of the three dev sets, `test_utterances` that of each of the three test sets.
    Raises a UserError if the extra `demo` is missing.
    """
    sizes = (train_utterances, dev_utterances, test_utterances)
    if min(sizes) < 1:
        raise UserError(f"the demo cannot have sets of {sizes} utterances; give each set at least 1")
    origin = f"demo version {VERSION}, seed {seed}, utterances {train_utterances} {dev_utterances} {test_utterances}"
    existing = _find_existing(folder, origin)
    if existing:
        return existing
    check_espeak()
    return write_corpus(folder, NAME, NORMALISER, KINDS, _speak_all(seed, *sizes), origin)


def _find_existing(folder: Path, origin: str) -> Corpus | None:
    """The corpus in `folder` if it is complete and of this origin. Raises a UserError if the folder holds others."""
    check_replaceable(folder, NAME)
    if not (folder / CORPUS_FILE).is_file():
        return None
    try:
        corpus = read_corpus(folder)
    except UserError:  # damaged: it is made again
        return None
    return corpus if corpus.origin == origin else None


def _speak_all(seed: int, train: int, dev: int, test: int) -> Iterator[Utterance]:
    for set_name, sentences in demo_sentences(seed, train, dev, test).items():
        rng = random.Random(f"demo voices {seed} {set_name}")
        voices = _draw_voices(UNSEEN_VOICES if set_name.endswith("-ood-voice") else TRAINING_VOICES, rng)
        for number, (sentence, voice) in enumerate(zip(sentences, voices, strict=False)):
            samples = _record(speak(sentence, voice), rng)
            yield Utterance(set_name, f"{set_name}-{number:05d}", sentence, voice.speaker, samples)


def _draw_voices(pool: Sequence[tuple[str, str]], rng: random.Random) -> Iterator[Voice]:
    """Voices without end: the pool in shuffled rounds, so that all speak equally often."""
    while True:
        for accent, variant in rng.sample(pool, len(pool)):
            yield Voice(accent, variant, rate=rng.choice(RATES), pitch=rng.choice(PITCHES))


def _record(spoken: np.ndarray, rng: random.Random) -> np.ndarray:
    """(T,) int16 at 22050 Hz as (T,) floats at 16 kHz, at a random loudness, with white noise added."""
    speech = resample(spoken / 32768.0, ESPEAK_RATE)
    gain = _amplitude(rng.uniform(*LOUDNESS)) * min(1.0, 0.9 / max(float(np.abs(speech).max()), 1e-9))
    root_mean_square = float(np.sqrt(np.mean(speech**2)))
    noise = np.random.default_rng(rng.getrandbits(63)).standard_normal(len(speech))
    return gain * (speech + noise * root_mean_square * _amplitude(-rng.uniform(*SIGNAL_TO_NOISE)))


def _amplitude(decibels: float) -> float:
    return 10.0 ** (decibels / 20.0)
