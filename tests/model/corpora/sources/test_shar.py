from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_layouts import write_shar
from lhotse import Recording
from recordings import cut_of, describe, list_found, noise, read_samples, record, supervise

from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.sources.manifest import read_manifests
from model.errors import UserError

SETS = ("train", "dev", "test")


@pytest.fixture
def recordings(tmp_path: Path) -> dict[str, Recording]:
    return {name: record(tmp_path / "audio" / f"{name}.wav", seed) for seed, name in enumerate(SETS)}


def prepare(tmp_path: Path, *paths: Path) -> Prepared:
    return prepare_corpus(read_manifests(paths), tmp_path / "out", Preparation())


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_shar_folder_holds_the_audio_of_its_cuts(recordings: dict[str, Recording], tmp_path: Path, form: str) -> None:
    both = tmp_path / "both.wav"
    soundfile.write(both, np.stack([noise(60, 2.0), noise(61, 2.0)], axis=1), 16_000)
    stereo = Recording.from_file(both, recording_id="stereo")
    for name, one in recordings.items():
        cuts = [cut_of(one, supervise(one), id=f"{name}.1/a")]
        if name == "train":
            parts = [supervise(stereo, 0.0, 0.5, id="s1", channel=1), supervise(stereo, 0.5, 1.0, id="s2", channel=1)]
            cuts += [cut_of(stereo, *parts, start=0.75, channel=1, id="right")]
        write_shar(tmp_path / "shar" / name, cuts, form, shard_size=1)
    shutil.rmtree(tmp_path / "audio")
    both.unlink()
    prepared = prepare(tmp_path, tmp_path / "shar")
    assert {name: [id for id, _, _ in found] for name, found in describe(prepared.corpus).items()} == {
        "train": ["train.1/a", "s1", "s2"],
        "dev": ["dev.1/a"],
        "test": ["test.1/a"],
    }
    samples = read_samples(prepared.corpus)
    np.testing.assert_allclose(samples["test.1/a"], noise(2, 2.0), atol=1 / 32768)
    np.testing.assert_allclose(samples["s2"], noise(61, 2.0)[20_000:28_000], atol=1 / 32768)
    with pytest.raises(UserError, match=r"recording.000000.tar lies in archives, which training cannot read in place"):
        prepare_corpus(read_manifests([tmp_path / "shar"]), tmp_path / "other", Preparation(copies=False))


def test_shar_without_the_audio_of_a_cut_is_found_and_a_damaged_archive_is_refused(
    recordings: dict[str, Recording], tmp_path: Path
) -> None:
    for name, one in recordings.items():
        without = cut_of(one, supervise(one), id="without")
        without.recording = None
        whole = cut_of(one, supervise(one), id=name)
        write_shar(tmp_path / "shar" / name, [whole, without] if name == "train" else [whole])
    prepared = prepare(tmp_path, *(tmp_path / "shar" / name for name in SETS))
    assert list_found(prepared.findings) == {"no-recording": ["train cuts.000000.jsonl.gz line 2: without"]}
    archive = tmp_path / "shar" / "dev" / "recording.000000.tar"
    archive.write_bytes(b"no archive" * 100)
    with pytest.raises(
        UserError, match=r"dev/recording.000000.tar: cannot be read \(.*\); write the Shar folder again"
    ):
        read_manifests([tmp_path / "shar"])
    archive.unlink()
    assert list_found(read_manifests([tmp_path / "shar"]).findings)["no-recording"][:1] == [
        "dev cuts.000000.jsonl.gz line 1: dev"
    ]
