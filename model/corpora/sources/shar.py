"""Lhotse Shar folders: shards of cuts, `cuts.000000.jsonl.gz`, each with their audio, `recording.000000.tar`.

What is stored is each cut's own audio, its channels alone, as a member that is named after the cut. Other fields, and
recordings that cuts name beside what is stored, are not used: such a cut starts at 0 wherever it was in its recording.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from model.corpora.containers import list_members
from model.corpora.findings import Finding
from model.corpora.source import Segment
from model.corpora.sources.json_lines import read_lines
from model.corpora.sources.lhotse_items import File, Item, Recording, read_cut, understood
from model.errors import UserError

NO_AUDIO = ("json", "nodata", "nometa")  # members that describe others, or stand for what a cut lacks

_CUTS = re.compile(r"cuts(\.\d+)?\.jsonl(\.gz)?")


def is_shar(folder: Path) -> bool:
    """Whether the folder holds numbered shards, or a single one with its audio."""
    return any(re.search(r"\.\d+\.", shard.name) or _archive(shard).is_file() for shard in list_shards(folder))


def list_shards(folder: Path) -> list[Path]:
    """The manifests of cuts in a folder, in their order."""
    return sorted(path for path in folder.glob("cuts*") if _CUTS.fullmatch(path.name))


def read_shar(folder: Path, set_name: str) -> Iterator[Segment | Finding]:
    """The utterances of all shards in a folder. Raises a UserError where a shard cannot be read."""
    for shard in list_shards(folder):
        archive = _archive(shard)
        members = _read_members(archive)
        for place, cut in read_lines(shard):
            with understood(place):
                yield from read_cut(f"{folder.name} {place}", cut, _stored(cut, archive, members), set_name)


def _archive(shard: Path) -> Path:
    return shard.with_name(f"recording{shard.name.removeprefix('cuts').partition('.jsonl')[0]}.tar")


def _read_members(archive: Path) -> dict[str, str]:
    """The members of an archive with audio, by the ids of their cuts; none where there is no archive."""
    if not archive.is_file():
        return {}
    try:
        names = list_members(archive)
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error}); write the Shar folder again") from None
    return {name.rpartition(".")[0]: name for name in names if name.rpartition(".")[2] not in NO_AUDIO}


def _stored(cut: Item, archive: Path, members: Mapping[str, str]) -> Recording | None:
    """The audio that is stored for a cut, as a recording of its own."""
    member = members.get(cut["id"])
    if member is None or "tracks" in cut:
        return None
    channel = cut["channel"]
    channels = (channel,) if isinstance(channel, int) else tuple(channel)
    file = File("member", channels, str(archive.absolute()), member)
    return Recording(cut["id"], float(cut["duration"]), (file,))
