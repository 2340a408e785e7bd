"""The MLflow store of a study on a cluster, for a page that is opened on this machine."""

from __future__ import annotations

from pathlib import Path

import yaml

from cluster.jobs.client import Jobs
from model.errors import UserError
from study.ledger.ledger import STUDY
from study.remote.place import Place, open_place, read_place
from study.remote.requests import ask, unpack
from study.remote.studies import find_folder

COPIES = Path("~/.cache/decred-study/pages")
DATABASE = "mlflow.db"
# SQLite's own copy, which is whole while a study writes.
COPY = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"


def fetch_store(on: str, name: str) -> str:
    """The URI of a study's store: its tracking server's, or that of a copy of its database as it is now."""
    place = read_place(on, None)
    with open_place(place) as jobs:
        folder = find_folder(jobs, place, name)
        tracking = _read_tracking(jobs, place, folder)
        return tracking if tracking is not None else f"sqlite:///{_copy_database(jobs, place, name, folder)}"


def _read_tracking(jobs: Jobs, place: Place, folder: str) -> str | None:
    answer = ask(jobs, ["cat", f"{folder}/{STUDY}"], dict(place.profile.env))
    if answer.code:
        raise UserError(f"{folder} on the cluster holds no study ({answer.errors.strip()})")
    tracking: str | None = yaml.safe_load(answer.out)["tracking"]
    return tracking


def _copy_database(jobs: Jobs, place: Place, name: str, folder: str) -> Path:
    command = ["python", "-c", COPY, f"{folder}/{DATABASE}", DATABASE]
    answer = ask(jobs, command, dict(place.profile.env), file=DATABASE)
    if answer.archive is None:
        raise UserError(f"the database of study '{name}' cannot be copied ({answer.errors.strip().splitlines()[-1]})")
    copy = COPIES.expanduser() / f"{place.name}-{name}.db"
    copy.parent.mkdir(parents=True, exist_ok=True)
    unpack(answer.archive, copy)
    return copy
