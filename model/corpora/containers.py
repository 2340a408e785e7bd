"""Audio files inside other files: members of a tar archive (Lhotse Shar), rows of an Arrow file (Hugging Face)."""

from __future__ import annotations

import errno
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # what an Arrow stream ends with
OPEN_CONTAINERS = 16  # that a process keeps open; their utterances are read one after the other


def open_member(container: Path, member: str | int, column: str) -> bytes:
    """The bytes of an audio file in a container: a member of an archive, or what a row has in `column`.

    Raises a LookupError where there is no such member, an OSError where the container cannot be read.
    """
    if isinstance(member, int):
        value = read_arrow(container)[column][member].as_py()
        if not isinstance(value, dict) or not value.get("bytes"):
            raise LookupError(f"row {member} of {container.name} holds no audio")
        return bytes(value["bytes"])
    archive, members = _open_tar(container)
    if member not in members:
        raise LookupError(f"{container.name} has no member {member}")
    with _errors_of_files():
        stream = archive.extractfile(members[member])
        return b"" if stream is None else stream.read()


def list_members(archive: Path) -> list[str]:
    """The names of the files in a tar archive. Raises an OSError where it cannot be read."""
    with _errors_of_files(), tarfile.open(archive) as members:
        return [info.name for info in members if info.isfile()]


@lru_cache(OPEN_CONTAINERS)
def read_arrow(path: Path) -> pa.Table:
    """The table in an Arrow file or stream, mapped into memory. Raises an OSError where it cannot be read."""
    if not path.is_file():  # to open a pipe would wait for who writes to it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    with _errors_of_files():
        source = pa.memory_map(str(path))
        try:
            table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_stream(source).read_all()
            source.seek(source.size() - len(END_OF_STREAM))
            if source.read() != END_OF_STREAM:
                raise OSError("it is cut off") from None
        table.validate(full=True)  # of damaged offsets a process would die
        return table


@lru_cache(OPEN_CONTAINERS)
def _open_tar(path: Path) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
    with _errors_of_files():
        archive = tarfile.open(path)  # noqa: SIM115 - it stays open for the members that are read next
        return archive, {info.name: info for info in archive if info.isfile()}


@contextmanager
def _errors_of_files() -> Iterator[None]:
    """What the libraries raise for damaged containers, as the OSError that any damaged file is."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, pa.ArrowException) as error:
        raise OSError(" ".join(str(error).split())) from None
