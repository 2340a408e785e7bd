"""Runs on the cluster before a study is submitted: what is there, as one line of JSON.

`python -m study.remote.describing STUDY.yaml must-exist|may-be-made`, of the storage; the line is read by
`study.remote.submission`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from model.errors import UserError
from study.config.places import study_folder
from study.config.study_file import StudyFile, make_base_recipe, read_study
from study.ledger.manifest import list_versions

MUST_EXIST, MAY_BE_MADE = "must-exist", "may-be-made"


def describe(file: Path, may_make: bool) -> dict[str, object]:
    """Versions of Python and of the packages, and the reason why the study could not run here, if there is one.

    A profile's storage has to be there: where a mount is missing, a folder would be made on the machine's own disk.
    """
    try:
        study = read_study(file)
        _check_storage(study_folder(study), may_make)
        fingerprint = _read_corpus(study)
    except UserError as error:
        return {"versions": list_versions(), "fault": str(error)}
    return {"versions": list_versions(), "fault": None, "corpus": fingerprint}


def _check_storage(folder: Path, may_make: bool) -> None:
    storage = folder.parent
    if may_make:
        storage.mkdir(parents=True, exist_ok=True)
    if not storage.is_dir():
        raise UserError(
            f"storage {storage} is no folder on the cluster's head; mount it there, or correct `storage` in the profile"
        )
    try:
        with tempfile.TemporaryFile(dir=folder if folder.is_dir() else storage):
            pass
    except OSError as error:
        raise UserError(f"storage {storage} cannot be written on the cluster's head ({error.strerror})") from None


def _read_corpus(study: StudyFile) -> str:
    from model.data.recipe_inputs import load_corpus

    return load_corpus(make_base_recipe(study)).fingerprint


if __name__ == "__main__":
    print(json.dumps(describe(Path(sys.argv[1]), sys.argv[2] == MAY_BE_MADE)))
