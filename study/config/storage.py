"""The folder that study folders lie in, as `storage` names it: a path, local or mounted, also as a file:// URI."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from model.errors import UserError

_HERE = ("", "localhost")


def storage_folder(storage: str) -> Path:
    """Absolute; object stores and other machines' folders are a UserError."""
    if "://" not in storage:
        return Path(storage).resolve()
    parts = urlsplit(storage)
    if parts.scheme.lower() == "file" and parts.netloc.lower() in _HERE and parts.path:
        return Path(unquote(parts.path)).resolve()
    raise UserError(
        f"storage is '{storage}', but must be a local or mounted path, such as /mnt/shared/studies or "
        "file:///mnt/shared/studies: the SQLite and the append-only file of a study need a file system; mount it"
    )
