"""Where study folders are: in the `storage` of the study file, a local or mounted path, also as a file:// URI."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from model.errors import UserError
from study.config.study_file import StudyFile

PLACE_VARIABLE = "DECRED_STUDY_PLACE"  # of a study that was submitted: the option that names its cluster
EXCLUDED_VARIABLE = "DECRED_EXCLUDED_NODES"  # addresses or host names, separated by commas, that trials avoid
_LOCAL_HOSTS = ("", "localhost")


def study_folder(study: StudyFile) -> Path:
    """The study's own folder, which holds its ledger."""
    return storage_folder(study.storage) / study.name


def storage_folder(storage: str) -> Path:
    """The absolute path of a `storage`; an object store or a folder of another machine is a UserError."""
    if "://" not in storage:
        return Path(storage).resolve()
    parts = urlsplit(storage)
    if parts.scheme.lower() == "file" and parts.netloc.lower() in _LOCAL_HOSTS and parts.path:
        return Path(unquote(parts.path)).resolve()
    raise UserError(
        f"storage is '{storage}', but must be a local or mounted path, such as /mnt/shared/studies or "
        "file:///mnt/shared/studies: the append-only files of a study need a file system; mount it "
        "(weights may go to an object store: object_store.checkpoints)"
    )
