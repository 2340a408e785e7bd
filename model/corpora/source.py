"""What a source of recordings gives to be prepared: segments, each with where its audio is, before any check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.corpora.findings import Finding, Findings


@dataclass(frozen=True, slots=True)
class AudioRef:
    """Where audio is: a stretch, in seconds, of a file or of a member of a container.

    `member` is the name of a file in a tar archive, or the row of an Arrow file, which has audio in its `column`.
    `channel` counts from 0; None is the mean of all. `end` None is the end of the recording.
    """

    file: str
    member: str | int | None = None
    channel: int | None = None
    start: float = 0.0
    end: float | None = None
    column: str = "audio"

    @property
    def is_plain(self) -> bool:
        """Whether it is a file of its own, which a corpus can leave where it is."""
        return self.member is None


@dataclass(frozen=True, slots=True)
class Segment:
    """An utterance as its source has it. `place` is where, for messages: `line 12`.

    `set_name` None is still to be divided into train, dev and test; `speaker` None is unknown.
    """

    place: str
    id: str
    text: str
    audio: AudioRef
    speaker: str | None = None
    set_name: str | None = None


@dataclass(frozen=True)
class Source:
    """All that a source has. `findings` is what it could not give as a segment.

    `origin` says what it was made from, and `files` are those that were read for it, beside the audio. `sets` may name
    its sets, those without a segment too. A source whose segments are all in one set may leave it to the preparation
    what to do with that: `is_divisible`.
    """

    name: str
    origin: str
    segments: Sequence[Segment]
    findings: Findings = field(default_factory=Findings)
    files: Sequence[str] = ()
    sets: Sequence[str] = ()
    is_divisible: bool = False


def collect(
    name: str,
    origin: str,
    met: Iterable[Segment | Finding],
    files: Iterable[Path],
    sets: Sequence[str] = (),
) -> Source:
    """A source of what a reader met: segments, and a finding for each thing that cannot be one."""
    segments: list[Segment] = []
    findings = Findings()
    for one in met:
        if not isinstance(one, Segment):
            findings.extend([one])
        elif not all(map(is_unicode, (one.id, one.text, one.speaker or ""))):
            findings.add("no-unicode", one.place, one.id)
        else:
            segments.append(one)
    return Source(
        name,
        origin,
        segments,
        findings,
        files=[str(file.absolute()) for file in files],
        sets=sets,
        is_divisible=True,
    )


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: half a surrogate pair, of JSON or for a byte of a file's name, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
