"""The lines of a set's manifest: lhotse cuts, so that other tools read them, written and read without lhotse's objects.

A cut's custom field `samples` is its length at 16 kHz. Corpora of versions before it was added hold 16 kHz audio.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.corpora.source import AudioRef
from model.recipe.architecture import SAMPLE_RATE

UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """An utterance of a corpus. `samples` is its length at 16 kHz; in a manifest the file of a copy is relative.

    Its recording has `frames` frames at `rate` Hz with `channels` channels.
    """

    id: str
    text: str
    speaker: str
    samples: int
    audio: AudioRef
    rate: int
    frames: int
    channels: int


def format_cut(entry: Entry) -> str:
    """The entry as one line of JSON, a lhotse cut: a MonoCut, or a MultiCut where the mean of several is meant."""
    audio, rate, frames, channels = entry.audio, entry.rate, entry.frames, entry.channels
    end = frames / rate if audio.end is None else audio.end
    duration = round((end - audio.start) * rate) / rate
    is_mean = audio.channel is None and channels > 1
    channel = list(range(channels)) if is_mean else audio.channel or 0
    recording = {
        "id": entry.id,
        "sources": [{"type": "file", "channels": list(range(channels)), "source": audio.file}],
        "sampling_rate": rate,
        "num_samples": frames,
        "duration": frames / rate,
        "channel_ids": list(range(channels)),
    }
    supervision = {
        "id": entry.id,
        "recording_id": entry.id,
        "start": 0.0,
        "duration": duration,
        "channel": channel,
        "text": entry.text,
        "speaker": entry.speaker,
    }
    cut = {
        "id": entry.id,
        "start": audio.start,
        "duration": duration,
        "channel": channel,
        "supervisions": [supervision],
        "recording": recording,
        "custom": {"samples": entry.samples},
        "type": "MultiCut" if is_mean else "MonoCut",
    }
    return json.dumps(cut, ensure_ascii=False)


def read_entry(line: str, folder: Path) -> Entry:
    """The entry of a line, with the absolute path of its audio: of a corpus in `folder`."""
    cut = json.loads(line)
    recording, supervision = cut["recording"], cut["supervisions"][0]
    custom: Mapping[str, Any] = cut.get("custom") or {}
    channel = cut["channel"]
    audio = AudioRef(
        file=str(folder / recording["sources"][0]["source"]),
        channel=None if isinstance(channel, list) else channel,
        start=cut["start"],
        end=cut["start"] + cut["duration"],
    )
    samples = custom.get("samples", round(cut["duration"] * SAMPLE_RATE))
    return Entry(
        id=cut["id"],
        text=supervision["text"],
        speaker=supervision.get("speaker") or UNKNOWN_SPEAKER,
        samples=samples,
        audio=audio,
        rate=recording["sampling_rate"],
        frames=recording["num_samples"],
        channels=len(recording["sources"][0]["channels"]),
    )
