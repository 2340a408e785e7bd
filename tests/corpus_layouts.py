"""Corpora in the layouts in which they are published or saved, of a few utterances each, for tests that read them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from lhotse.cut import Cut
from lhotse.shar import SharWriter
from recordings import write_audio

COMMON_VOICE_COLUMNS = (
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes"),
    *("age", "gender", "accents", "variant", "locale", "segment"),
)

ARROW_AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ARROW_TYPES = {"Audio": ARROW_AUDIO, "Value": pa.string(), "ClassLabel": pa.int64()}
TEXT: dict[str, Any] = {"dtype": "string", "_type": "Value"}
FEATURES = {"audio": {"sampling_rate": 16_000, "_type": "Audio"}, "sentence": TEXT, "client_id": TEXT}


def write_librispeech(
    part: Path, speaker: str, chapter: str, said: Iterable[tuple[np.ndarray, str]]
) -> dict[str, np.ndarray]:
    """A speaker's chapter in a part of LibriSpeech, 16 kHz FLAC and its transcript; samples as read, (T,), by id."""
    folder = part / speaker / chapter
    samples, lines = dict[str, np.ndarray](), []
    for number, (spoken, text) in enumerate(said):
        id = f"{speaker}-{chapter}-{number:04d}"
        samples[id] = write_audio(folder / f"{id}.flac", spoken, 16_000)
        lines.append(f"{id} {text.upper()}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return samples


def write_common_voice(language: Path, split: str, said: Iterable[tuple[np.ndarray, str, str]], first: int = 0) -> None:
    """A split of a language of Common Voice, MP3 of 32 kHz: samples, sentence and client of each clip.

    Clips are numbered from `first`.
    """
    lines = ["\t".join(COMMON_VOICE_COLUMNS)]
    for number, (samples, sentence, client) in enumerate(said, start=first):
        clip = f"common_voice_{language.name}_{number}.mp3"
        write_audio(language / "clips" / clip, samples, 32_000)
        row = {"client_id": client, "path": clip, "sentence": sentence, "up_votes": "2", "locale": language.name}
        lines.append("\t".join(row.get(column, "") for column in COMMON_VOICE_COLUMNS))
    (language / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines))


def write_ted_talk(part: Path, talk: str, samples: np.ndarray, said: Iterable[tuple[float, float, str]]) -> np.ndarray:
    """A talk in a part of TED-LIUM, 16 kHz NIST and its segments: start, end and text; samples as read, (T,)."""
    (part / "stm").mkdir(parents=True, exist_ok=True)
    lines = [f"{talk} 1 {talk} {start:g} {end:g} <o,f0,male> {text}\n" for start, end, text in said]
    (part / "stm" / f"{talk}.stm").write_text("".join(lines))
    return write_audio(part / "sph" / f"{talk}.sph", samples, 16_000)


def write_kaldi(folder: Path, **files: str) -> Path:
    """A data folder; `wav_scp="a a.wav"` is the file `wav.scp`, lines are separated by `;`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text("".join(f"{line}\n" for line in lines.split(";")))
    return folder


def write_shar(folder: Path, cuts: Iterable[Cut], form: str = "flac", shard_size: int = 1000) -> Path:
    """A Shar folder with its audio."""
    folder.mkdir(parents=True)
    with SharWriter(folder, fields={"recording": form}, shard_size=shard_size) as writer:
        for cut in cuts:
            writer.write(cut)
    return folder


def encode_audio(samples: np.ndarray, rate: int, name: str) -> dict[str, Any]:
    """Audio as a saved dataset has it, in the format of the name's suffix."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=name.rpartition(".")[2].upper())
    return {"bytes": content.getvalue(), "path": name}


def save_split(
    folder: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any] = FEATURES, files: int = 1
) -> Path:
    """A split as `save_to_disk` of the library datasets (5.2) writes it, with its rows in so many Arrow files."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, ARROW_TYPES[about["_type"]]) for name, about in features.items()])
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for row in rows[number::files]:
                writer.write_table(pa.Table.from_pylist([dict(row)], schema))
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    state = {"_data_files": [{"filename": name} for name in names], "_format_type": None, "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def save_splits(folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]], **options: Any) -> Path:
    """Splits as `save_to_disk` writes them together."""
    for name, rows in splits.items():
        save_split(folder / name, rows, **options)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder
