"""Preflight from the laptop: a short job on the cluster looks at its nodes, and its report comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from cluster.jobs.client import Jobs
from cluster.machines.profile import MachinesProfile
from cluster.preflight.facts import Report
from cluster.preflight.report import read_report
from cluster.profiles.profile import Profile
from model.errors import UserError
from study.config.study_file import read_study
from study.remote.place import Place, explain
from study.remote.requests import ask, pack_project
from study.remote.submission import COMPARED, STUDY, write_study

NOWHERE = "/"  # the storage of a cluster that is given by its address alone


def run_preflight(jobs: Jobs, place: Place, study: Path | None, seconds: float) -> Report:
    """What a cluster's nodes and the network between them are like, and their faults; with a study its corpus, too.

    A node has to answer within `seconds`. A UserError where the cluster's head does not run the check at all.
    """
    with tempfile.TemporaryDirectory(prefix="decred-preflight-") as temporary, explain():
        folder = Path(temporary)
        pack_project(folder)
        if study is not None:
            write_study(read_study(study), folder, place.profile)
        words = ["python", "-m", "study.remote.preflighting", *_list_options(place.profile, study is not None, seconds)]
        answer = ask(jobs, words, place.environment(), folder=folder)
    if answer.code != 0:
        said = answer.errors.strip().splitlines() or ["it printed nothing"]
        raise UserError(f"preflight does not run on the cluster's head ({said[-1]}); correct its environment")
    return read_report(answer.out.strip().splitlines()[-1])


def _list_options(profile: Profile, has_study: bool, seconds: float) -> Iterator[str]:
    yield from ("--seconds", f"{seconds:g}")
    if profile.storage != NOWHERE:
        yield from ("--storage", profile.storage)
    if has_study:
        yield from ("--study", STUDY)
    for package in COMPARED:
        if package != "python":  # whose version is looked at in any case
            yield from ("--package", package)
    for address in profile.exclude:
        yield from ("--skip", address)
    for machine in profile.machines if isinstance(profile, MachinesProfile) else ():
        yield from ("--expect", machine.address)
