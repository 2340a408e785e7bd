"""Corpora of thousands of hours for tests of the data path: real manifests, and features that are holes in files."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import numpy as np

from model.corpora.corpus import CORPUS_FILE, Corpus, CorpusFile, SetInfo, manifest_path, read_corpus
from model.corpora.manifest import Entry, format_cut
from model.corpora.source import AudioRef
from model.data import frontend
from model.data.features import PART_UTTERANCES, feature_folder, part_path, samples_at
from model.recipe.architecture import MEL_BINS, SAMPLE_RATE
from model.strict import to_yaml

WORDS = ("sun", "moon", "river", "stone", "winter", "garden", "seven", "open", "letter", "morning", "quiet", "market")
SECONDS = (4.0, 16.0)


def make_large_corpus(folder: Path, utterances: dict[str, int], speeds: tuple[float, ...] = (1.0,)) -> Corpus:
    """A corpus with so many utterances of each set, uniformly of 4 to 16 s, and features of zeros at the speeds."""
    folder.mkdir(parents=True)
    sets = {name: _write_manifest(folder, name, count, seed) for seed, (name, count) in enumerate(utterances.items())}
    content = CorpusFile(name="large", normaliser="none", sets=sets, fingerprint="0" * 64)
    (folder / CORPUS_FILE).write_text(to_yaml(content))
    corpus = read_corpus(folder)
    for name, speed in itertools.product(sets, speeds):
        _write_features(corpus, name, speed)
    return corpus


def _write_manifest(folder: Path, name: str, count: int, seed: int) -> SetInfo:
    draw = np.random.default_rng(seed)
    samples = (draw.uniform(*SECONDS, count) * SAMPLE_RATE).astype(int).tolist()
    words = draw.integers(len(WORDS), size=(count, 16))
    with gzip.open(manifest_path(folder, name), "wt", 1) as stream:
        for number, length in enumerate(samples):
            text = " ".join(WORDS[word] for word in words[number, : 2 + length // SAMPLE_RATE])
            audio = AudioRef(f"audio/{name}/{number}.flac", channel=0, end=length / SAMPLE_RATE)
            speaker = f"speaker-{number % 1000}"
            entry = Entry(f"{name}-{number:07d}", text, speaker, length, audio, SAMPLE_RATE, length, 1)
            stream.write(format_cut(entry) + "\n")
    role = "train" if name.startswith("train") else "dev"
    size = manifest_path(folder, name).stat().st_size
    return SetInfo(role=role, utterances=count, seconds=sum(samples) / SAMPLE_RATE, manifest_bytes=size)


def _write_features(corpus: Corpus, name: str, speed: float) -> None:
    """Files of the size that features have, which hold nothing: they read as zeros and take no room."""
    folder = feature_folder(corpus, name, speed)
    folder.mkdir(parents=True)
    frames = [frontend.frame_count(samples_at(speed, entry.samples)) for entry in corpus.entries(name)]
    for part in range(-(-len(frames) // PART_UTTERANCES)):
        shape = sum(frames[part * PART_UTTERANCES : (part + 1) * PART_UTTERANCES]), MEL_BINS
        with part_path(folder, part).open("wb") as stream:
            np.lib.format.write_array_header_2_0(stream, {"descr": "<f2", "fortran_order": False, "shape": shape})
            stream.truncate(stream.tell() + 2 * shape[0] * shape[1])
