"""Audio that cannot be used, or is not as it seems: each kind is found, counted and listed, and nothing else is lost.

None of it may stop or hang a preparation, whatever lies where a recording should be.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chaos.bad_sources import (
    UTTERANCES,
    assert_prepared,
    make_row,
    run_prepare,
    write_hugging_face,
    write_rows,
    write_shar,
)
from recordings import noise

pytestmark = pytest.mark.timeout(120)  # none of it may hang
Plant = Callable[[Path], object]
FLAC_TOTAL = 21  # where the last four bytes of a FLAC file's number of samples are


def write(path: Path, samples: np.ndarray, rate: int = 16_000, form: str = "WAV", **options: str) -> None:
    soundfile.write(path, samples, rate, format=form, **options)


def encoded(form: str, seconds: float = 1.0, **options: str) -> Plant:
    return partial(write, samples=noise(50, seconds), form=form, **options)


def samples(values: np.ndarray, rate: int = 16_000, **options: str) -> Plant:
    return partial(write, samples=values, rate=rate, **options)


def cut(form: str, share: float, **options: str) -> Plant:
    """A file of which only the first share is there."""

    def plant(path: Path) -> None:
        write(path, noise(50, 1.0), form=form, **options)
        os.truncate(path, int(share * path.stat().st_size))

    return plant


def changed(form: str, *changes: tuple[int, bytes]) -> Plant:
    """A file with other bytes at some places."""

    def plant(path: Path) -> None:
        write(path, noise(50, 1.0), form=form)
        content = bytearray(path.read_bytes())
        for place, value in changes:
            content[place : place + len(value)] = value
        path.write_bytes(content)

    return plant


def sphere(*fields: str, seconds: float = 1.0) -> Plant:
    """A NIST SPHERE file with these fields in its header, then 16-bit samples."""

    def plant(path: Path) -> None:
        lines = ["NIST_1A", "   1024", "channel_count -i 1", "sample_rate -i 16000", "sample_n_bytes -i 2", *fields]
        header = "\n".join([*lines, "sample_byte_format -s2 01", "sample_sig_bits -i 16", "end_head", ""])
        content = (32768 * noise(50, seconds)).astype("<i2").tobytes()
        path.write_bytes(header.encode().ljust(1024) + content)

    return plant


def with_garbage_in_front(path: Path) -> None:
    write(path, noise(50, 1.0), form="MP3")
    path.write_bytes(b"garbage\0" * 400 + path.read_bytes())


TEN_HOURS = struct.pack("<I", 10 * 3600 * 32_000)
HUGE = np.where(noise(50) > 0, 1e308, -1e308)

# What lies where a recording should be, and the check that finds it, None where it is good after all.
KINDS: dict[str, tuple[Plant, str | None]] = {
    "nothing": (lambda path: None, "missing"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "missing"),
    "a folder": (Path.mkdir, "unreadable"),
    "a pipe that nobody writes to": (os.mkfifo, "unreadable"),
    "a socket": (lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK), "unreadable"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "unreadable"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "unreadable"),
    "an empty file": (Path.touch, "unreadable"),
    "text": (lambda path: path.write_text("no audio " * 100), "unreadable"),
    "zeros": (lambda path: path.write_bytes(bytes(100_000)), "unreadable"),
    "half a WAV file": (cut("WAV", 0.5), "truncated"),
    "the header of a WAV file": (cut("WAV", 0.002), "truncated"),
    "half a WAV file of floats": (cut("WAV", 0.5, subtype="DOUBLE"), "truncated"),
    "half an AIFF file": (cut("AIFF", 0.5), "truncated"),
    "half an AU file": (cut("AU", 0.5), "truncated"),
    "half a W64 file": (cut("W64", 0.5), "truncated"),
    "most of a CAF file": (cut("CAF", 0.999), "truncated"),
    "half a FLAC file": (cut("FLAC", 0.5), "truncated"),
    "most of a FLAC file": (cut("FLAC", 0.999), "truncated"),
    "half an MP3 file": (cut("MP3", 0.5), "truncated"),
    "half an Ogg file of Vorbis": (cut("OGG", 0.5), "truncated"),
    "an Ogg file of Vorbis without its last bytes": (cut("OGG", 0.999), "truncated"),
    "half an Ogg file of Opus": (cut("OGG", 0.5, subtype="OPUS"), "unreadable"),
    "half a SPHERE file": (cut("NIST", 0.5), "truncated"),
    "the header of a FLAC file": (cut("FLAC", 0.001), "unreadable"),
    "a WAV header of ten hours": (changed("WAV", (40, TEN_HOURS)), "truncated"),
    "a WAV header of a stream": (changed("WAV", (40, b"\xff\xff\xff\xff")), None),
    "a FLAC header of a month": (changed("FLAC", (FLAC_TOTAL, b"\xf0\xff\xff\xff\xff")), "unreadable"),
    "a FLAC header of a stream": (changed("FLAC", (FLAC_TOTAL, b"\xf0\0\0\0\0")), "unreadable"),
    "a WAV header of one sample a second": (changed("WAV", (24, struct.pack("<I", 1))), "unreadable"),
    "a WAV header of two billion a second": (changed("WAV", (24, struct.pack("<I", 2_000_000_000))), "unreadable"),
    "a WAV header of no samples a second": (changed("WAV", (24, bytes(4))), "unreadable"),
    "a WAV header of no channels": (changed("WAV", (22, bytes(2))), "unreadable"),
    "a WAV header of many channels": (changed("WAV", (22, b"\xff\xff")), "unreadable"),
    "damage in the middle of a FLAC file": (changed("FLAC", (9000, bytes(3000))), "truncated"),
    "a compressed SPHERE file": (
        sphere("sample_count -i 16000", "sample_coding -s26 pcm,embedded-shorten-v2.00"),
        "unreadable",
    ),
    "a SPHERE file that states no count": (sphere(), None),
    "a SPHERE file with words for a count": (sphere("sample_count -i many"), None),
    "a SPHERE file with an empty count": (sphere("sample_count"), None),
    "an MP3 file after garbage": (with_garbage_in_front, "unreadable"),
    "NaN": (samples(np.full(8000, np.nan), subtype="FLOAT"), "not-finite"),
    "one NaN": (samples(np.append(noise(50), np.nan), subtype="FLOAT"), "not-finite"),
    "infinity": (samples(np.append(noise(50), np.inf), subtype="DOUBLE"), "not-finite"),
    "numbers that overflow when they are added": (
        samples(np.stack([HUGE, HUGE], axis=1), 8000, subtype="DOUBLE"),
        "not-finite",
    ),
    "huge numbers": (samples(1e-300 * HUGE, subtype="DOUBLE"), "clipped"),
    "silence": (samples(np.zeros(8000)), "silent"),
    "hardly any sound": (samples(1e-4 * noise(50)), "silent"),
    "a constant": (samples(np.full(8000, 0.5)), "silent"),
    "full scale": (samples(np.sign(noise(50))), "clipped"),
    "no samples": (samples(np.zeros(0)), "short"),
    "no samples of a FLAC file": (samples(np.zeros(0), form="FLAC"), "unreadable"),
    "one sample": (samples(np.ones(1)), "short"),
    "a click": (samples(noise(50, 0.05)), "short"),
    "4 kHz": (samples(noise(50, 1.0, 4000), 4000), "rate"),
    "96 kHz": (samples(noise(50, 1.0, 96_000), 96_000), "rate"),
    "a prime rate": (samples(noise(50, 1.0, 22_253), 22_253), None),
    "7.1 channels": (samples(np.stack([noise(seed) for seed in range(50, 58)], axis=1)), "channels"),
    "a minute": (samples(noise(50, 60.0)), "long"),
    "another's audio": (samples(noise(0)), "same-audio"),
    "ADPCM": (encoded("WAV", subtype="MS_ADPCM"), None),
    "GSM": (encoded("WAV", subtype="GSM610"), None),
}
LEFT_OUT = {"missing", "unreadable", "truncated", "not-finite", "short", "silent"}


@pytest.mark.parametrize("copy", ["--copy", "--no-copy"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_lies_where_a_recording_should_be_is_found_and_nothing_else_is_lost(
    kind: str, copy: str, tmp_path: Path
) -> None:
    plant, check = KINDS[kind]
    table = write_rows(tmp_path / "source", {"audio": "bad.wav"})
    plant(tmp_path / "source" / "bad.wav")
    ended = run_prepare("table", table, "--out", tmp_path / "out", copy)
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, {check: 1} if check else {})
    assert ("bad-0" in {entry.id for entry in corpus.entries("train")}) == (check not in LEFT_OUT)


def contents(*kinds: str, folder: Path) -> dict[str, bytes]:
    """What these kinds write, by kind."""
    for kind in kinds:
        KINDS[kind][0](folder / kind)
    return {kind: (folder / kind).read_bytes() for kind in kinds}


IN_ARCHIVES = (
    "an empty file",
    "text",
    "half a WAV file",
    "most of a FLAC file",
    "half an Ogg file of Vorbis",
    "half a SPHERE file",
    "NaN",
    "silence",
)


def test_audio_in_a_tar_archive_is_checked_as_audio_in_files_is(tmp_path: Path) -> None:
    spoilt = contents(*IN_ARCHIVES, folder=tmp_path)
    folders = write_shar(tmp_path / "shar", spoilt)
    found = Counter(check for check in (KINDS[kind][1] for kind in IN_ARCHIVES) if check)
    ended = run_prepare("manifest", *folders, "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES + len(spoilt), found)
    assert "0x" not in ended.out, "an address in memory"


def test_audio_in_an_arrow_file_is_checked_as_audio_in_files_is(tmp_path: Path) -> None:
    spoilt = contents(*IN_ARCHIVES, folder=tmp_path)
    rows = [
        make_row(60 + number, audio={"bytes": content, "path": "x"}) for number, content in enumerate(spoilt.values())
    ]
    found = Counter(check for check in (KINDS[kind][1] for kind in IN_ARCHIVES) if check)
    found = found - Counter(["unreadable"]) + Counter(["missing"])  # the empty one
    ended = run_prepare("hf", write_hugging_face(tmp_path / "saved", *rows), "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES + len(spoilt), found)
