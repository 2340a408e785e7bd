"""Lhotse's recordings, supervisions and cuts, as manifests and recipes have them, as segments.

What cannot be one becomes a finding: audio that is the output of a command, that is elsewhere on the network, that is
changed while it is read (all but resampling) or mixed, and channels of which some but not all would be averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.corpora.audio import AudioError
from model.corpora.findings import Finding
from model.corpora.source import AudioRef, Segment
from model.corpora.sources.names import locate
from model.errors import UserError

Item = Mapping[str, Any]  # a line of a manifest
Placed = tuple[str, Item]  # with its place, for messages

HARMLESS = ("Resample",)  # the audio is resampled to 16 kHz anyway, and times stay the same
SAME_TIME = 1e-3  # seconds: what a manifest rounds


@dataclass(frozen=True, slots=True)
class File:
    """A source of a recording: some of its channels. `kind` is lhotse's type, or `member` for a file in an archive."""

    kind: str
    channels: tuple[int, ...]
    name: str
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording with its files; `seconds` is its length as the manifest has it, which need not be exact."""

    id: str
    seconds: float
    files: tuple[File, ...]
    transforms: tuple[str, ...] = ()


@contextmanager
def understood(place: str) -> Iterator[None]:
    """Raise a UserError with the place of an item that lacks what lhotse's items have."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{place}: cannot be understood ({reason}); write the manifest with lhotse again") from None


def read_recording(item: Item, folders: Iterable[Path]) -> Recording:
    """A recording. Paths are relative to the first of `folders` that has the file."""
    files = tuple(
        File(
            source["type"],
            tuple(source["channels"]),
            locate(source["source"], folders) if source["type"] == "file" else str(source["source"]),
        )
        for source in item["sources"]
    )
    transforms = tuple(transform["name"] for transform in item.get("transforms") or ())
    return Recording(_text(item, "id"), float(item["duration"]), files, transforms)


def read_pair(
    recordings: Iterable[Placed], supervisions: Iterable[Placed], set_name: str, folders: Iterable[Path]
) -> Iterator[Segment | Finding]:
    """The utterances of recordings and their supervisions, and the recordings and supervisions without the other."""
    by_id: dict[str, Recording] = {}
    places: dict[str, str] = {}  # of the recordings, then of those without a supervision
    for place, item in recordings:
        with understood(place):
            recording = read_recording(item, folders)
        if recording.id in by_id:
            raise UserError(f"{place}: has recording '{recording.id}' again, after {places[recording.id]}; keep one")
        by_id[recording.id], places[recording.id] = recording, place
    for place, item in supervisions:
        with understood(place):
            recording_id = _text(item, "recording_id")
            found = by_id.get(recording_id)
            places.pop(recording_id, None)
            if found is None:
                yield Finding("no-recording", place, recording_id)
            else:
                yield _utterance(place, _text(item, "id"), item, found, item.get("channel", 0), 0.0, set_name)
    for id, place in places.items():
        yield Finding("no-transcript", place, id)


def read_cut(place: str, cut: Item, recording: Recording | None, set_name: str) -> Iterator[Segment | Finding]:
    """The utterances of a cut: each of its supervisions. Where it has one, that has the id of the cut."""
    cut_id, supervisions = _text(cut, "id"), cut.get("supervisions") or []
    if "tracks" in cut:
        yield Finding("unreadable", place, f"{cut_id} is mixed of several cuts, which is not supported")
    elif recording is None:
        yield Finding("no-recording", place, cut_id)
    elif not supervisions:
        yield Finding("no-transcript", place, cut_id)
    else:
        for supervision in supervisions:
            id = cut_id if len(supervisions) == 1 else _text(supervision, "id")
            channel = cut["channel"]
            if not isinstance(channel, int):
                channel = supervision.get("channel", channel)
            yield _utterance(place, id, supervision, recording, channel, cut["start"], set_name)


def _utterance(
    place: str,
    id: str,
    supervision: Item,
    recording: Recording,
    channel: int | Sequence[int],
    offset: float,
    set_name: str,
) -> Segment | Finding:
    """The utterance of a supervision, whose times begin at `offset` in the recording."""
    if supervision.get("text") is None:
        return Finding("no-transcript", place, id)
    text, speaker = _text(supervision, "text"), supervision.get("speaker")
    start = offset + supervision["start"]
    end = start + supervision["duration"]
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError(f"it is from {start} to {end} s")
    try:
        audio = _audio(recording, channel, start, end)
    except AudioError as error:
        return Finding(error.check, place, error.detail)
    return Segment(place, id, text, audio, None if speaker is None else str(speaker), set_name)


def _text(item: Item, key: str) -> str:
    """The text that an item has at a key. Raises a ValueError where it is another value."""
    value = item[key]
    if not isinstance(value, str):
        raise ValueError(f"its {key} is {value!r}, but must be text")
    return value


def _audio(recording: Recording, channel: int | Sequence[int], start: float, end: float) -> AudioRef:
    """Where a stretch of a recording is. Raises an AudioError where it is in no file."""
    transforms = [name for name in recording.transforms if name not in HARMLESS]
    if transforms:
        raise AudioError("unreadable", f"{recording.id} is changed by {', '.join(transforms)}, which is not supported")
    channels = [channel] if isinstance(channel, int) else list(channel)
    file = _file(recording, channels)
    if file.kind == "command":
        raise AudioError("pipe", recording.id)
    if file.kind not in ("file", "member"):
        raise AudioError("unreadable", f"{recording.id} is no file but a source of type {file.kind}, {file.name[:80]}")
    # Where an utterance ends with its recording, the recording's own end is meant, whatever length the manifest has.
    last = None if abs(recording.seconds - end) < SAME_TIME else end
    index = None if len(channels) > 1 else file.channels.index(channels[0])
    return AudioRef(file.name, member=file.member, channel=index, start=start, end=last)


def _file(recording: Recording, channels: Sequence[int]) -> File:
    """The file of one channel, or of exactly these."""
    files = [file for file in recording.files if set(channels) & set(file.channels)]
    if not channels or set(channels) - {channel for file in files for channel in file.channels}:
        raise AudioError("no-channel", f"{recording.id}, channel {', '.join(map(str, channels)) or 'none'}")
    if len(files) > 1 or len(channels) not in (1, len(files[0].channels)):
        listed = ", ".join(map(str, channels))
        raise AudioError("unreadable", f"{recording.id} means channels {listed}, but must mean one, or all of one file")
    return files[0]
