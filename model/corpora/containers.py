"""Audio files inside other files: members of a tar archive (Lhotse Shar), rows of an Arrow file (Hugging Face)."""

from __future__ import annotations

import tarfile
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

OPEN_CONTAINERS = 16  # that a process keeps open; their utterances are read one after the other


def open_member(container: Path, member: str | int) -> bytes:
    """The bytes of an audio file in a container. Raises a LookupError where it has no such member."""
    if isinstance(member, int):
        value = read_arrow(container)["audio"][member].as_py()
        if not isinstance(value, dict) or not value.get("bytes"):
            raise LookupError(f"row {member} of {container.name} holds no audio")
        return bytes(value["bytes"])
    archive, members = _open_tar(container)
    stream = archive.extractfile(members[member]) if member in members else None
    if stream is None:
        raise LookupError(f"{container.name} has no member {member}")
    return stream.read()


@lru_cache(OPEN_CONTAINERS)
def _open_tar(path: Path) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
    archive = tarfile.open(path)  # noqa: SIM115 - it stays open for the members that are read next
    return archive, {info.name: info for info in archive if info.isfile()}


@lru_cache(OPEN_CONTAINERS)
def read_arrow(path: Path) -> pa.Table:
    """The table in an Arrow file or stream, mapped into memory."""
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()
