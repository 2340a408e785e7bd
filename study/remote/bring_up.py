"""Clusters that are started, looked at and ended from here, by the kind of their profile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cluster.errors import ClusterError
from cluster.kinds import find_endpoint, render
from cluster.machines import up
from cluster.machines.profile import MachinesProfile
from cluster.slurm import commands as slurm
from cluster.slurm.excluded import name_excluded
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import make_script
from model.errors import UserError
from study.remote.place import Place, explain, open_place, read_place
from study.remote.studies import describe_state, list_studies, stop_study


def bring_up(name: str) -> Iterator[str]:
    """Start a cluster; a line for each machine as it is up, and how to go on."""
    place = read_place(name, None)
    profile = place.profile
    with explain():
        if isinstance(profile, MachinesProfile):
            endpoint = find_endpoint(profile, place.name)
            assert endpoint.token_file is not None
            yield from up.bring_up(profile, place.name, endpoint.token_file)
            yield f"dashboard: {endpoint.dashboard}, token in {endpoint.token_file}"
        elif isinstance(profile, SlurmProfile):
            jobs = slurm.find_jobs(profile, place.name)
            job = jobs[-1] if jobs else slurm.submit(profile, make_script(name_excluded(profile), place.name, None))
            yield f"Slurm job {job}: {slurm.find_state(profile, job)}; it is up when `cluster status` has its dashboard"
        else:
            raise _started_elsewhere(place)
    yield f"submit a study with: decred-study submit STUDY.yaml --on {name}"


def take_down(name: str) -> Iterator[str]:
    """Stop the studies that run, then end the cluster; a line for each."""
    place = read_place(name, None)
    profile = place.profile
    if not isinstance(profile, MachinesProfile | SlurmProfile):
        raise UserError(str(_started_elsewhere(place)))
    yield from _stop_studies(place)
    with explain():
        if isinstance(profile, MachinesProfile):
            yield from up.take_down(profile, place.name)
            return
        for job in slurm.find_jobs(profile, place.name):
            slurm.cancel(profile, job)
            yield f"Slurm job {job}: cancelled"


def look_at(name: str) -> Iterator[str]:
    """A line for each machine or batch job, then one for each study."""
    place = read_place(name, None)
    profile = place.profile
    with explain():
        if isinstance(profile, MachinesProfile):
            yield from up.look_at(profile, place.name)
        elif isinstance(profile, SlurmProfile):
            for job in slurm.find_jobs(profile, place.name):
                yield f"Slurm job {job}: {slurm.find_state(profile, job)}"
    try:
        with open_place(place) as jobs:
            yield f"dashboard: {jobs.dashboard}"
            for study in list_studies(jobs):
                yield f"study {study.metadata['study']}: {describe_state(study)}"
    except UserError as error:
        yield str(error)


def render_cluster(name: str, study: Path | None) -> tuple[str, str]:
    """The file that starts a cluster by other tools, for a study alone if one is given; and the command that takes it.

    The study file has to lie where the cluster's machines find it.
    """
    place = read_place(name, None)
    profile, command = place.profile, None
    if study is not None:
        there = profile.path_there(str(study.resolve()))
        command = ["python", "-m", "study", "run", there, "--address", "{head}"]
        profile = profile.model_copy(update={"env": profile.env | place.excluded_nodes})
    with explain():
        return render(profile, place.name, command)


def _stop_studies(place: Place) -> Iterator[str]:
    """Stop what runs, where the cluster answers at all."""
    try:
        with open_place(place) as jobs:
            for job in list_studies(jobs):
                if not job.has_ended:
                    yield f"study {job.metadata['study']}: {describe_state(stop_study(jobs, job.metadata['study']))}"
    except UserError as error:
        yield f"its studies cannot be stopped in order: {error}"


def _started_elsewhere(place: Place) -> ClusterError:
    kind = getattr(place.profile, "kind", "?")
    how = f"write its file with `decred-study cluster render {place.name}`" if kind != "ray" else "it runs already"
    return ClusterError(f"profile {place.name} is of the kind {kind}, whose clusters other tools start and end; {how}")
