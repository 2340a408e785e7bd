"""Spoken miniatures of published corpora: Espeak NG's voices in the folders, files and rates that these have."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from corpus_layouts import (
    TEXT,
    encode_audio,
    save_splits,
    write_common_voice,
    write_kaldi,
    write_librispeech,
    write_shar,
    write_ted_talk,
)
from lhotse import Recording
from recordings import cut_of, supervise, write_audio
from scipy.signal import resample_poly

from model.corpora.demo.sentences import demo_sentences
from model.corpora.demo.voice import ESPEAK_RATE, Voice, speak

VARIANTS = ("m1", "f2", "m3", "f4", "m7")
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Said:
    """A sentence, and a voice that speaks it."""

    text: str
    variant: str

    def samples(self, rate: int) -> np.ndarray:
        """(T,) floats."""
        spoken = speak(self.text, Voice("en-us", self.variant, rate=200, pitch=50))
        return resample_poly(spoken / 32768.0, rate, ESPEAK_RATE)


Sets = dict[str, list[Said]]


def say(seed: int, train: int, dev: int = 0, test: int = 0) -> Sets:
    """So many sentences for each set, each in one set alone; the voices take turns. A set of none is left out."""
    sentences = demo_sentences(seed, train, max(dev, 1), max(test, 1))
    sets = {"train": sentences["train"], "dev": sentences["dev"][:dev], "test": sentences["test-in"][:test]}
    return {
        name: [Said(text, VARIANTS[number % len(VARIANTS)]) for number, text in enumerate(texts)]
        for name, texts in sets.items()
        if texts
    }


def write_spoken_librispeech(folder: Path) -> Sets:
    """Parts of each kind, a chapter of each speaker."""
    said = say(1, train=20, dev=8, test=8)
    parts = {
        "train-clean-100": said["train"],
        "dev-clean": said["dev"][:4],
        "dev-other": said["dev"][4:],
        "test-clean": said["test"][:4],
        "test-other": said["test"][4:],
    }
    for number, (part, sentences) in enumerate(parts.items(), start=1):
        for reader, variant in enumerate(VARIANTS):
            read = [(one.samples(16_000), one.text) for one in sentences if one.variant == variant]
            if read:
                write_librispeech(folder / part, f"{number}{reader}84", "121123", read)
    (folder / "SPEAKERS.TXT").write_text("; id, sex, part, minutes and name of each reader\n")
    return parts


def write_spoken_common_voice(folder: Path) -> Sets:
    """English and German, of which one is prepared; clips of 32 kHz, sentences with capitals and punctuation."""
    said = say(2, train=20, dev=4, test=4)
    first = 41_000_000
    for language in ("en", "de"):
        for name, sentences in said.items():
            clips = [
                (one.samples(32_000), f"{one.text.capitalize()}.", f"{name}{one.variant}" * 20) for one in sentences
            ]
            write_common_voice(folder / language, name, clips, first)
            first += len(clips)
    return said


def write_spoken_ted_talks(folder: Path) -> Sets:
    """A talk of each set, with a gap that is not to be scored after each segment."""
    said = say(3, train=20, dev=4, test=4)
    for name, sentences in said.items():
        samples, places = _join(sentences, 16_000)
        segments = []
        for one, (start, end) in zip(sentences, places, strict=True):
            segments += [(start, end, one.text), (end, end + PAUSE_SECONDS, "ignore_time_segment_in_scoring")]
        write_ted_talk(folder / "legacy" / name, f"Ann{name.title()}_2010", samples, segments)
    return said


def write_spoken_calls(folder: Path) -> Sets:
    """Telephone calls of 8 kHz, a side in each channel and two sentences on each side."""
    said = say(4, train=20, dev=4, test=4)
    for name, sentences in said.items():
        files: dict[str, list[str]] = {
            one: [] for one in ("wav_scp", "reco2file_and_channel", "segments", "text", "utt2spk")
        }
        for number in range(0, len(sentences), 4):
            call = f"{name}{number:02d}"
            sides = {"A": sentences[number : number + 2], "B": sentences[number + 2 : number + 4]}
            joined = {channel: _join(side, 8000) for channel, side in sides.items()}
            longest = max(len(samples) for samples, _ in joined.values())
            both = [np.pad(samples, (0, longest - len(samples))) for samples, _ in joined.values()]
            write_audio(folder.parent / "audio" / f"{call}.wav", np.stack(both, axis=1), 8000)
            for channel, side in sides.items():
                files["wav_scp"].append(f"{call}-{channel} audio/{call}.wav")
                files["reco2file_and_channel"].append(f"{call}-{channel} {call} {channel}")
                for one, (start, end) in zip(side, joined[channel][1], strict=True):
                    id = f"{call}-{channel}-{round(100 * start):06d}"
                    files["segments"].append(f"{id} {call}-{channel} {start:.2f} {end:.2f}")
                    files["text"].append(f"{id} {one.text}")
                    files["utt2spk"].append(f"{id} {call}-{channel}")
        write_kaldi(folder / name, **{one: ";".join(lines) for one, lines in files.items()})
    return said


def write_spoken_podcasts(folder: Path) -> Sets:
    """Shar folders of 44.1 kHz, without one to test on."""
    said = say(5, train=20, dev=4)
    for name, sentences in said.items():
        cuts = []
        for number, one in enumerate(sentences):
            path = folder.parent / "podcasts" / f"{name}-{number}.wav"
            write_audio(path, one.samples(44_100), 44_100)
            recording = Recording.from_file(path)
            supervision = supervise(recording, text=one.text, speaker=f"{name}-{one.variant}")
            cuts.append(cut_of(recording, supervision))
        write_shar(folder / name, cuts, shard_size=8)
    shutil.rmtree(folder.parent / "podcasts")
    return said


def write_spoken_minds14(folder: Path) -> Sets:
    """The only split that MInDS-14 has, saved: 8 kHz, an intent and no speaker."""
    said = say(6, train=40)
    rows = [
        {
            "path": f"en-US~ADDRESS/{number}.wav",
            "audio": encode_audio(one.samples(8000), 8000, f"{number}.wav"),
            "transcription": one.text,
            "intent_class": 1,
        }
        for number, one in enumerate(said["train"])
    ]
    features = {
        "path": TEXT,
        "audio": {"sampling_rate": 8000, "_type": "Audio"},
        "transcription": TEXT,
        "intent_class": {"names": ["abroad", "address"], "_type": "ClassLabel"},
    }
    save_splits(folder, {"train": rows}, features=features)
    return said


def _join(said: Sequence[Said], rate: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The sentences one after the other, with pauses, (T,), and from when to when each is."""
    pause = np.zeros(round(PAUSE_SECONDS * rate))
    parts, places, length = list[np.ndarray](), list[tuple[float, float]](), 0
    for one in said:
        samples = one.samples(rate)
        parts += [samples, pause]
        places.append((round(length / rate, 2), round((length + len(samples)) / rate, 2)))
        length += len(samples) + len(pause)
    return np.concatenate(parts), places
