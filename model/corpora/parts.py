"""Preparing a corpus part by part: each is checked by some process, and its result kept until the corpus is whole.

A part's file is named after what the part is made of, with the size and time of its audio, so that the same work is
never done twice, whoever was killed in between, and that a corrected source costs only the parts that changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile

from model.corpora.audio import AudioError, Stretch, read_stretch, to_mono_16khz
from model.corpora.findings import Finding
from model.corpora.normaliser import normalise, version_of
from model.corpora.source import AudioRef, Segment
from model.recipe.architecture import SAMPLE_RATE
from model.runtime.progress import note_progress
from model.strict import replace_file

SEGMENTS = 256  # in a part: seconds of work
VERSION = 1  # raised when a part's result changes for the same segments
NAME_CHARACTERS = 80  # of an id that are in the name of its copy, which may have 255 bytes

QUIETEST = 1e-3  # -60 dB of full scale
FULL_SCALE, MOST_CLIPPED = 0.999, 0.01
LONGEST_SECONDS = 30.0
MOST_CHARACTERS_PER_SECOND = 25  # as many as the encoder has frames
USUAL_RATES = (8_000, 48_000)


@dataclass(frozen=True, slots=True)
class CheckedSegment:
    """A segment after its checks. `samples` at 16 kHz is 0 where it has none; `digest` is of them as 16-bit numbers.

    `audio` is where they are from now on, in a recording of `frames` frames at `rate` Hz with `channels` channels.
    """

    place: str
    id: str
    set_name: str
    text: str
    speaker: str | None
    audio: AudioRef
    findings: tuple[Finding, ...]
    samples: int = 0
    digest: str = ""
    rate: int = 0
    frames: int = 0
    channels: int = 0


@dataclass(frozen=True)
class Part:
    """Segments that are checked together. With `copies` their audio is written into the draft of the corpus."""

    segments: tuple[Segment, ...]
    normaliser: str
    copies: bool
    draft: Path

    @cached_property
    def key(self) -> str:
        """Identifies the part's content and how it is prepared."""
        segments = [dataclasses.astuple(segment) for segment in self.segments]
        settings = [VERSION, version_of(self.normaliser), self.copies]
        stamps = [_stamp(file) for file in dict.fromkeys(segment.audio.file for segment in self.segments)]
        return hashlib.sha256(json.dumps([settings, segments, stamps]).encode()).hexdigest()[:16]

    @property
    def result(self) -> Path:
        return self.draft / "parts" / f"{self.key}.jsonl"

    @property
    def audio_folder(self) -> str:
        """Of the copies, relative to the corpus."""
        return f"audio/{self.key}"


def _stamp(file: str) -> tuple[int, int] | None:
    """What is another when a file was changed."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return None
    return status.st_size, status.st_mtime_ns


def divide(segments: Sequence[Segment], normaliser: str, copies: bool, draft: Path) -> list[Part]:
    """All segments in parts, in their order."""
    starts = range(0, len(segments), SEGMENTS)
    return [Part(tuple(segments[start : start + SEGMENTS]), normaliser, copies, draft) for start in starts]


def check_part(part: Part) -> int:
    """Check a part and keep its result; the number of its segments. What is there already is not done again."""
    if not part.result.is_file():
        checked = []
        for number, segment in enumerate(part.segments):
            checked.append(check_segment(segment, number, part))
            note_progress()
        lines = [json.dumps(dataclasses.asdict(one)) for one in checked]  # in ASCII, whatever names of files hold
        replace_file(part.result, "".join(f"{line}\n" for line in lines))
    return len(part.segments)


def read_part(part: Part) -> Iterator[CheckedSegment]:
    """The result of a part that was checked."""
    with part.result.open(encoding="utf-8") as stream:
        for line in stream:
            content = json.loads(line)
            findings = tuple(Finding(**finding) for finding in content.pop("findings"))
            yield CheckedSegment(audio=AudioRef(**content.pop("audio")), findings=findings, **content)


def check_segment(segment: Segment, number: int, part: Part) -> CheckedSegment:
    """The segment, the part's `number`th, with what its checks found, and with its copy if it is to have one."""
    assert segment.set_name is not None, "sets are divided before parts are"
    text = normalise(part.normaliser, segment.text)
    bare = CheckedSegment(
        segment.place, segment.id, segment.set_name, text, segment.speaker, segment.audio, findings=()
    )
    if not text.strip():
        finding = Finding("no-text", segment.place, f"{part.normaliser}: {segment.text!r}")
        return dataclasses.replace(bare, findings=(finding,))
    name = _name(segment.audio)
    try:
        stretch = read_stretch(segment.audio)
        samples = to_mono_16khz(stretch.samples, stretch.rate)
    except AudioError as error:
        finding = Finding(error.check, segment.place, ", ".join(filter(None, (name, error.detail))))
        return dataclasses.replace(bare, findings=(finding,))
    findings = tuple(
        Finding(check, segment.place, ", ".join(filter(None, (name, detail))))
        for check, detail in _judge(segment, text, stretch, samples)
    )
    pcm = to_pcm(samples)
    kept = dataclasses.replace(
        bare, findings=findings, samples=len(pcm), digest=hashlib.sha256(pcm.tobytes()).hexdigest()
    )
    if part.copies:
        return _copy(kept, pcm, number, part)
    end = (stretch.first + len(stretch.samples)) / stretch.rate
    audio = dataclasses.replace(segment.audio, end=end)
    return dataclasses.replace(kept, audio=audio, rate=stretch.rate, frames=stretch.frames, channels=stretch.channels)


def to_pcm(samples: np.ndarray) -> np.ndarray:
    """(T,) floats within [-1, 1] as 16-bit integers; 16-bit audio comes back unchanged."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2")


def _copy(checked: CheckedSegment, pcm: np.ndarray, number: int, part: Part) -> CheckedSegment:
    # The number distinguishes what the id does not: ids that are long, or there twice, or differ in case alone.
    relative = f"{part.audio_folder}/{number:03d}-{quote(checked.id, safe=' ')[:NAME_CHARACTERS]}.flac"
    content = io.BytesIO()
    soundfile.write(content, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    replace_file(part.draft / relative, content.getvalue())
    audio = AudioRef(relative, channel=0, end=len(pcm) / SAMPLE_RATE)
    return dataclasses.replace(checked, audio=audio, rate=SAMPLE_RATE, frames=len(pcm), channels=1)


def _judge(segment: Segment, text: str, stretch: Stretch, samples: np.ndarray) -> Iterator[tuple[str, str]]:
    """The checks that the segment does not pass though it has audio and text, each with what is particular to it."""
    seconds = len(samples) / SAMPLE_RATE
    if stretch.is_cut:
        yield "beyond-end", f"{segment.audio.end:g} s of {stretch.frames / stretch.rate:g} s"
    if segment.audio.channel is None and stretch.channels > 1:
        yield "channels", str(stretch.channels)
    if not USUAL_RATES[0] <= stretch.rate <= USUAL_RATES[1]:
        yield "rate", f"{stretch.rate} Hz"
    if np.abs(samples - samples.mean()).max() < QUIETEST:
        yield "silent", ""
    clipped = float((np.abs(stretch.samples) >= FULL_SCALE).mean())
    if clipped > MOST_CLIPPED:
        yield "clipped", f"{100 * clipped:.0f} %"
    if seconds > LONGEST_SECONDS:
        yield "long", f"{seconds:.1f} s"
    characters = len(text.replace(" ", ""))
    if characters > MOST_CHARACTERS_PER_SECOND * seconds:
        yield "dense", f"{characters} characters in {seconds:.2f} s"


def _name(audio: AudioRef) -> str:
    name = Path(audio.file).name
    return name if audio.member is None else f"{name}[{audio.member}]"
