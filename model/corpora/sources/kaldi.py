"""Kaldi data folders, each a set: `wav.scp` and `text`, with `segments`, `utt2spk` and `reco2file_and_channel`.

A recording that `wav.scp` gives as the output of a command is left out: no command is run. A path is relative to the
current folder, as for Kaldi, or where that has no such file to the data folder or one above it. `reco2file_and_channel`
chooses a channel of a file that has several; a file of one channel holds that one already. A single folder is no
division: it is divided into train, dev and test.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from model.corpora.audio import AudioError
from model.corpora.findings import Finding
from model.corpora.source import AudioRef, Segment, Source, collect
from model.corpora.sources.names import locate, plain_name
from model.errors import UserError

REQUIRED = ("wav.scp", "text")
OPTIONAL = ("segments", "utt2spk", "reco2file_and_channel")
CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}


@dataclass(frozen=True, slots=True)
class _Line:
    """What a line has after its first field, the id."""

    number: int
    rest: str


@dataclass(frozen=True, slots=True)
class _Stretch:
    recording: str
    start: float = 0.0
    end: float | None = None


def read_kaldi(folders: Sequence[Path]) -> Source:
    """The utterances of Kaldi data folders. Raises a UserError that names file and line where one is malformed."""
    names = _name_sets(folders)
    met = (one for folder, name in zip(folders, names, strict=True) for one in _read_folder(folder, name))
    files = [folder / name for folder in folders for name in (*REQUIRED, *OPTIONAL) if (folder / name).is_file()]
    name = plain_name(folders[0].resolve().parent.name)
    return collect(name, f"Kaldi data in {', '.join(map(str, folders))}", met, files, names)


def _name_sets(folders: Sequence[Path]) -> list[str]:
    first: dict[str, Path] = {}
    for folder in folders:
        for required in REQUIRED:
            if not (folder / required).is_file():
                raise UserError(
                    f"{folder}: holds no {required}; give Kaldi data folders, with {' and '.join(REQUIRED)}"
                )
        name = plain_name(folder.resolve().name)
        if name in first:
            raise UserError(f"{first[name]} and {folder} would both be set '{name}'; rename one of the folders")
        first[name] = folder
    return list(first)


def _read_folder(folder: Path, set_name: str) -> Iterator[Segment | Finding]:
    """Its utterances, and what is there of one without the rest."""
    label = folder.resolve().name
    recordings = _read_recordings(folder)
    stretches = _read_stretches(folder / "segments", recordings)
    texts, speakers = _read_lines(folder / "text"), _read_lines(folder / "utt2spk")
    for utterance, stretch in stretches.items():
        place = f"{label} {utterance}"
        recording = recordings.get(stretch.recording)
        if utterance not in texts:
            yield Finding("no-transcript", place)
        elif recording is None:
            yield Finding("no-recording", place, stretch.recording)
        elif isinstance(recording, AudioError):
            yield Finding(recording.check, place, recording.detail)
        else:
            audio = replace(recording, start=stretch.start, end=stretch.end)
            speaker = _speaker(utterance, speakers)
            yield Segment(place, utterance, texts[utterance].rest, audio, speaker, set_name)
    used = {stretch.recording for stretch in stretches.values()}
    for unused in [recording for recording in recordings if recording not in used]:
        yield Finding("no-transcript", f"{label} {unused}", "no segment of it")
    for unused in [utterance for utterance in texts if utterance not in stretches]:
        yield Finding("no-recording", f"{label} {unused}", "neither a segment nor a recording")


def _read_recordings(folder: Path) -> dict[str, AudioRef | AudioError]:
    """The audio of each recording, or why it cannot be used."""
    channels = _read_channels(folder / "reco2file_and_channel")
    here = folder.resolve()
    folders = (Path.cwd(), here, *here.parents)
    recordings: dict[str, AudioRef | AudioError] = {}
    for recording, line in _read_lines(folder / "wav.scp").items():
        if not line.rest:
            raise UserError(f"{folder / 'wav.scp'}: line {line.number} names no audio file for {recording}; add it")
        try:
            _check_plain(recording, line.rest)
        except AudioError as error:
            recordings[recording] = error
            continue
        file = locate(line.rest, folders)
        recordings[recording] = AudioRef(file, channel=_choose_channel(file, channels.get(recording)))
    return recordings


def _check_plain(recording: str, name: str) -> None:
    """Raise an AudioError where `wav.scp` names anything but a file, by the rules of Kaldi's extended filenames."""
    if name == "-" or name.startswith("|") or name.endswith("|"):
        raise AudioError("pipe", recording)
    if re.search(r":\d+$", name):
        raise AudioError("unreadable", f"{recording} is a place in an archive, {Path(name).name}")


def _choose_channel(file: str, listed: int | None) -> int | None:
    """The channel that is listed, where the file has several. The file is opened only where one is listed."""
    if listed is None or not os.path.isfile(file):
        return listed
    try:
        return listed if soundfile.info(file).channels > 1 else None
    except (OSError, RuntimeError, TypeError):
        return listed  # the checks of the utterance say what is wrong with the file


def _read_channels(path: Path) -> dict[str, int]:
    channels = {}
    for recording, line in _read_lines(path).items():
        fields = line.rest.split()
        if len(fields) != 2 or fields[1] not in CHANNELS:
            raise UserError(
                f"{path}: line {line.number} must have RECORDING FILE CHANNEL, where CHANNEL is A, B, 1 or 2"
            )
        channels[recording] = CHANNELS[fields[1]]
    return channels


def _read_stretches(path: Path, recordings: Mapping[str, object]) -> dict[str, _Stretch]:
    """The stretch of each utterance; without `segments` every recording is one."""
    if not path.is_file():
        return {recording: _Stretch(recording) for recording in recordings}
    return {utterance: _stretch(path, line) for utterance, line in _read_lines(path).items()}


def _stretch(path: Path, line: _Line) -> _Stretch:
    fields = line.rest.split()
    if len(fields) != 3:
        raise UserError(
            f"{path}: line {line.number} has {len(fields) + 1} fields, but must have 4: UTTERANCE RECORDING START END"
        )
    try:
        start, end = float(fields[1]), float(fields[2])
    except ValueError:
        start, end = -1.0, -1.0
    to_end = end == -1.0
    if not (0.0 <= start < float("inf") and (to_end or start < end < float("inf"))):
        raise UserError(
            f"{path}: line {line.number} is from '{fields[1]}' to '{fields[2]}', but must have seconds, and an end "
            "after the start, or -1 for the end of the recording"
        )
    return _Stretch(fields[0], start, None if to_end else end)


def _speaker(utterance: str, speakers: Mapping[str, _Line]) -> str | None:
    """None where it is the utterance itself, which Kaldi writes for a speaker who is not known."""
    name = speakers[utterance].rest if utterance in speakers else ""
    return name if name not in ("", utterance) else None


def _read_lines(path: Path) -> dict[str, _Line]:
    """The lines of a file by their first fields; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    lines: dict[str, _Line] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        id, *rest = line.split(maxsplit=1)
        if id in lines:
            raise UserError(f"{path}: line {number} has '{id}' again, after line {lines[id].number}; keep one")
        lines[id] = _Line(number, rest[0].strip() if rest else "")
    return lines
