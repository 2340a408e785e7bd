from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import noise, write_segments

from model.corpora.audio import resample, resampled_length
from model.corpora.corpus import Corpus
from model.corpora.preparation import Preparation, prepare_corpus
from model.corpora.source import Source
from model.data import features
from model.data.features import FeatureStore, compute_features, feature_folder, missing_parts, samples_at
from model.data.frontend import extract_features, frame_count
from model.errors import UserError
from model.runtime.processes import run_in_processes

SETS = {"train": 5, "dev": 1}
run_here = partial(run_in_processes, jobs=1)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Features of its training set are in three parts."""
    monkeypatch.setattr(features, "PART_UTTERANCES", 2)
    segments = write_segments(tmp_path / "recordings", SETS)
    return prepare_corpus(Source("small", "here", segments), tmp_path / "corpus", Preparation()).corpus


def open_store(corpus: Corpus, set_name: str, speed: float = 1.0) -> FeatureStore:
    samples = np.array([samples_at(speed, entry.samples) for entry in corpus.entries(set_name)])
    return FeatureStore(feature_folder(corpus, set_name, speed), samples)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("speed", [1.0, 0.9, 1.1])
def test_cached_features_are_those_of_the_audio(corpus: Corpus, speed: float, jobs: int) -> None:
    compute_features(corpus, "train", speed, partial(run_in_processes, jobs=jobs))
    store = open_store(corpus, "train", speed)
    for position, entry in enumerate(corpus.entries("train")):
        samples = resample(corpus.read_samples(entry), round(16_000 * speed))
        fresh = extract_features(torch.from_numpy(samples).float())
        assert len(fresh) == store.frames[position] == frame_count(samples_at(speed, entry.samples))
        torch.testing.assert_close(store[position], fresh, atol=5e-3, rtol=1e-3)  # float16 on disk


def test_a_faster_copy_is_shorter_and_higher() -> None:
    rate = 16_000
    tone = np.sin(2 * np.pi * 500 * np.arange(rate) / rate)
    faster = resample(tone, round(rate * 1.25))
    assert len(faster) == rate / 1.25
    spectrum = np.abs(np.fft.rfft(faster))
    assert np.argmax(spectrum) * rate / len(faster) == pytest.approx(500 * 1.25, abs=2)


def test_the_length_of_resampled_audio_is_known_before_it_is_made() -> None:
    for samples, rate in itertools.product(
        (1, 7, 1600, 12_345), (8000, 11_025, 14_400, 17_600, 22_254, 44_100, 48_000)
    ):
        assert len(resample(np.zeros(samples), rate)) == resampled_length(samples, rate)


def test_only_parts_that_are_missing_are_computed(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = feature_folder(corpus, "train", 1.0)
    compute_features(corpus, "train", 1.0, run_here)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["part-00000.npy", "part-00001.npy", "part-00002.npy"]
    (folder / "part-00001.npy").unlink()
    assert missing_parts(folder, 5) == {1: folder / "part-00001.npy"}
    written = []
    write_part = features.write_part
    monkeypatch.setattr(features, "write_part", lambda part: written.append(part.path.name) or write_part(part))
    compute_features(corpus, "train", 1.0, run_here)
    assert written == ["part-00001.npy"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_part_that_is_not_whole_is_never_there(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    count = itertools.count()

    def extract(samples):
        if next(count) == 3:
            raise error
        return extract_features(samples)

    monkeypatch.setattr(features.frontend, "extract_features", extract)
    is_full = r"features cannot be kept there \(No space left on device\); make room, or copy"
    expected = (KeyboardInterrupt, None) if isinstance(error, KeyboardInterrupt) else (UserError, is_full)
    with pytest.raises(expected[0], match=expected[1]):
        compute_features(corpus, "train", 1.0, run_here)
    assert [path.name for path in feature_folder(corpus, "train", 1.0).iterdir()] == ["part-00000.npy"]


def test_what_a_killed_process_left_is_removed_and_what_another_one_writes_is_not(corpus: Corpus) -> None:
    folder = feature_folder(corpus, "dev", 1.0)
    folder.mkdir(parents=True)
    dead, living = folder / ".part-00000.npy.dead", folder / ".part-00000.npy.living"
    for draft in (dead, living):
        draft.write_bytes(b"half")
    os.utime(dead, (0, 0))
    compute_features(corpus, "dev", 1.0, run_here)
    assert sorted(path.name for path in folder.iterdir()) == [living.name, "part-00000.npy"]


def test_audio_that_is_gone_since_the_preparation_is_named(corpus: Corpus) -> None:
    shutil.rmtree(corpus.folder / "audio")
    with pytest.raises(UserError, match=r"train-0.flac: no such audio file; make the corpus again"):
        compute_features(corpus, "train", 1.0, run_here)


def test_recordings_of_other_rates_and_channels_that_stay_in_place_have_the_features_of_their_copies(
    tmp_path: Path,
) -> None:
    import soundfile

    segments = write_segments(tmp_path / "recordings", SETS)
    stereo = np.stack([noise(50, 2.0, 44_100), noise(51, 2.0, 44_100)], axis=1)
    soundfile.write(tmp_path / "recordings" / "stereo.wav", stereo, 44_100)
    audio = dataclasses.replace(segments[0].audio, file=str(tmp_path / "recordings" / "stereo.wav"), start=0.5, end=1.7)
    segments[0] = dataclasses.replace(segments[0], audio=audio)
    stores = []
    for copies in (True, False):
        source = Source("small", "here", segments)
        corpus = prepare_corpus(source, tmp_path / f"{copies}", Preparation(copies=copies)).corpus
        compute_features(corpus, "train", 0.9)
        stores.append(open_store(corpus, "train", 0.9))
    for position in range(SETS["train"]):
        torch.testing.assert_close(stores[0][position], stores[1][position], atol=0.02, rtol=0.01)  # 16 bit
