from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from recordings import read_samples, write_noise, write_segments

from model.corpora.audio import AudioError, read_stretch
from model.corpora.containers import list_members, open_member
from model.corpora.preparation import Preparation, prepare_corpus
from model.corpora.source import AudioRef, Source
from model.errors import UserError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_noise(tmp_path / "a.wav", 1)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name in ("a.wav", "deeper/b.c.wav"):
            tar.add(tmp_path / "a.wav", name)
    return tmp_path / "shard.tar"


def test_members_of_an_archive_are_listed_and_read(archive: Path, tmp_path: Path) -> None:
    assert list_members(archive) == ["a.wav", "deeper/b.c.wav"]
    assert open_member(archive, "deeper/b.c.wav", "audio") == (tmp_path / "a.wav").read_bytes()


@pytest.mark.parametrize("opened", [pa.ipc.new_stream, pa.ipc.new_file])
def test_a_row_of_an_arrow_file_or_stream_has_its_audio_in_the_column(tmp_path: Path, opened) -> None:
    columns = {"far": [{"bytes": b"one"}, {"bytes": b"two"}], "near": [{"bytes": b"three"}, None]}
    table = pa.table(columns)
    with opened(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert open_member(tmp_path / "x.arrow", 1, "far") == b"two"
    with pytest.raises(LookupError, match=r"row 1 of x.arrow holds no audio"):
        open_member(tmp_path / "x.arrow", 1, "near")


@pytest.mark.parametrize("member", ["a.wav", 0])
def test_a_damaged_container_is_audio_that_cannot_be_read(tmp_path: Path, member: str | int) -> None:
    (tmp_path / "damaged").write_bytes(b"neither" * 200)
    with pytest.raises(AudioError, match="audio cannot be read") as caught:
        read_stretch(AudioRef(str(tmp_path / "damaged"), member=member))
    assert caught.value.check == "unreadable"


def test_an_archive_that_ends_early_is_audio_that_cannot_be_read(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:4000])
    with pytest.raises(AudioError, match="audio cannot be read"):
        read_stretch(AudioRef(str(archive), member="a.wav"))


def test_a_member_that_is_not_there_is_missing(archive: Path) -> None:
    with pytest.raises(AudioError, match="no such audio file") as caught:
        read_stretch(AudioRef(str(archive), member="none.wav"))
    assert caught.value.check == "missing"


def test_audio_in_archives_is_copied_and_cannot_be_left_in_its_place(archive: Path, tmp_path: Path) -> None:
    segments = write_segments(tmp_path / "recordings", {"train": 2, "dev": 1})
    segments[0] = dataclasses.replace(segments[0], audio=AudioRef(str(archive), member="a.wav"))
    source = Source("small", "the source", segments)
    message = (
        r"the source: audio in .*shard.tar lies in archives, which training cannot read in place; leave out --no-c"
    )
    with pytest.raises(UserError, match=message):
        prepare_corpus(source, tmp_path / "out", Preparation(copies=False))
    assert not (tmp_path / "out").exists()
    corpus = prepare_corpus(source, tmp_path / "out", Preparation()).corpus
    np.testing.assert_array_equal(read_samples(corpus)["train-0"], soundfile.read(tmp_path / "a.wav")[0])
