"""Datasets of Hugging Face that were saved with `save_to_disk`: a folder of splits, or a single split.

They are read without the library `datasets`. Audio is what the Arrow files hold, or a file where they have only its
path. A split is a set, but a single one is no division: it is divided into train, dev and test.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from model.corpora.containers import read_arrow
from model.corpora.findings import Finding
from model.corpora.source import AudioRef, Segment, Source, collect
from model.corpora.sources.names import locate, plain_name
from model.errors import UserError
from model.strict import unknown_name

TEXT_COLUMNS = ("sentence", "text", "transcription", "transcript", "normalized_text")
SPEAKER_COLUMNS = ("speaker_id", "client_id", "speaker")
SPLITS_FILE, STATE_FILE, INFO_FILE = "dataset_dict.json", "state.json", "dataset_info.json"


@dataclass(frozen=True)
class _Columns:
    text: str
    audio: str
    speaker: str | None


def read_hugging_face(
    folder: Path, text: str | None = None, audio: str | None = None, speaker: str | None = None
) -> Source:
    """The rows of a saved dataset. Columns that are not given are those of usual names, and the only one with audio.

    Raises a UserError where the folder holds no dataset, or which column is meant is not known.
    """
    splits = _find_splits(folder)
    files: list[Path] = []
    met: list[Segment | Finding] = []
    for name, path in splits.items():
        columns = _choose_columns(path, text, audio, speaker)
        tables = _read_tables(path)
        files += tables
        met += _read_split(folder, name, columns, tables)
    return collect(plain_name(folder.resolve().name), f"dataset {folder}", met, files, list(splits))


def _find_splits(folder: Path) -> dict[str, Path]:
    """The folder of each split."""
    if (folder / SPLITS_FILE).is_file():
        with _understood(folder / SPLITS_FILE):
            names = _read_json(folder / SPLITS_FILE)["splits"]
            splits = {plain_name(name): folder / name for name in names}
        if len(splits) < len(names):
            raise UserError(f"{folder}: two of its splits, {', '.join(names)}, would be the same set; rename one")
        return splits
    if (folder / STATE_FILE).is_file():
        return {plain_name(folder.resolve().name): folder}
    raise UserError(
        f"{folder}: holds neither {SPLITS_FILE} nor {STATE_FILE}, so it was not saved with save_to_disk; load it with "
        "the library datasets, and save it so"
    )


def _choose_columns(split: Path, text: str | None, audio: str | None, speaker: str | None) -> _Columns:
    info = split / INFO_FILE
    features: Mapping[str, Any] = _read_json(info).get("features") or {}
    for option, name in (("text", text), ("audio", audio), ("speaker", speaker)):
        if name is not None and name not in features:
            raise UserError(f"{info}: has no column '{name}' for --{option}; {unknown_name(name, features)}")
    kinds = {name: about.get("_type") for name, about in features.items() if isinstance(about, dict)}
    with_audio = [name for name, kind in kinds.items() if kind == "Audio"]
    if audio is None and len(with_audio) != 1:
        listed = f"several columns with audio, {', '.join(with_audio)}" if with_audio else "no column of type Audio"
        raise UserError(f"{info}: has {listed}; name one with --audio COLUMN")
    texts = [name for name in TEXT_COLUMNS if name in features]
    if text is None and not texts:
        others = ", ".join(name for name in features if name not in with_audio)
        raise UserError(f"{info}: has no column {', '.join(TEXT_COLUMNS)}; name one with --text COLUMN, of {others}")
    speakers = [name for name in SPEAKER_COLUMNS if name in features]
    return _Columns(text or texts[0], audio or with_audio[0], speaker or (speakers[0] if speakers else None))


def _read_tables(split: Path) -> dict[Path, pa.Table]:
    """The Arrow files of a split in the order of its rows, mapped into memory."""
    with _understood(split / STATE_FILE):
        paths = [split / file["filename"] for file in _read_json(split / STATE_FILE)["_data_files"]]
    tables = {}
    for path in paths:
        try:
            tables[path] = read_arrow(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"{path}: cannot be read ({reason}); save the dataset again") from None
    return tables


def _read_split(
    folder: Path, set_name: str, columns: _Columns, tables: Mapping[Path, pa.Table]
) -> Iterator[Segment | Finding]:
    number = 0  # of the row in the split, as `datasets` counts
    for path, table in tables.items():
        _check_columns(path, table, columns)
        rows = zip(
            table[columns.text].to_pylist(),
            _read_audio(path, table, columns.audio, (Path.cwd(), folder)),
            table[columns.speaker].to_pylist() if columns.speaker else [None] * table.num_rows,
            strict=True,
        )
        for text, audio, speaker in rows:
            place = f"{set_name} row {number}"
            id = f"{set_name}-{number:06d}"
            number += 1
            if text is None:
                yield Finding("no-transcript", place)
            elif audio is None:
                yield Finding("no-recording", place)
            else:
                yield Segment(place, id, str(text), audio, None if speaker is None else str(speaker), set_name)


def _check_columns(path: Path, table: pa.Table, columns: _Columns) -> None:
    for name in filter(None, (columns.text, columns.audio, columns.speaker)):
        if table.column_names.count(name) != 1:
            raise UserError(f"{path}: has no column '{name}', which {INFO_FILE} names; save the dataset again")
    kind = table.schema.field(columns.text).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UserError(f"{path}: column '{columns.text}' is {kind}, which is no text; name another with --text COLUMN")


def _read_audio(path: Path, table: pa.Table, column: str, folders: Iterable[Path]) -> Iterator[AudioRef | None]:
    """Where the audio of each row is; it is not read yet."""
    kind = table.schema.field(column).type
    if not pa.types.is_struct(kind) or {"bytes", "path"} - {kind[index].name for index in range(kind.num_fields)}:
        raise UserError(f"{path}: column '{column}' is {kind}, which is no audio; name another with --audio COLUMN")
    stored = pc.is_valid(pc.struct_field(table[column], "bytes")).to_pylist()
    names = pc.struct_field(table[column], "path").to_pylist()
    for row, (is_stored, name) in enumerate(zip(stored, names, strict=True)):
        if is_stored:
            yield AudioRef(str(path.absolute()), member=row, column=column)
        else:
            yield AudioRef(locate(name, folders)) if name else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or f"it is not JSON: {error}"
        raise UserError(f"{path}: cannot be read ({reason}); save the dataset again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no mapping, so the dataset was not saved with save_to_disk; save it so")
    return content


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Raise a UserError where a file lacks what `save_to_disk` writes."""
    try:
        yield
    except (LookupError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{path}: cannot be understood ({reason}); save the dataset again") from None
