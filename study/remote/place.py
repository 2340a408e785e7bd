"""The cluster that a command is about: a profile by its name or file, or the address of a dashboard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.credentials import use_token_file
from cluster.errors import ClusterError
from cluster.jobs.client import Jobs, open_jobs
from cluster.kinds import KINDS, find_endpoint
from cluster.profiles.profile import Profile, RayProfile
from cluster.tunnel import open_tunnel
from model.errors import UserError
from model.strict import read_yaml, unknown_name, validate
from study.config.places import EXCLUDED_VARIABLE, PLACE_VARIABLE

FOLDERS = (Path("clusters"), Path("~/.config/decred-study/clusters"))  # where profiles are looked up by name


@dataclass(frozen=True)
class Place:
    """A cluster, under the name of its profile's file, or under its address where there is no profile."""

    name: str
    profile: Profile
    is_address: bool = False

    def study_folder(self, study: str) -> str:
        """Where a study lies on the cluster's machines."""
        return f"{self.profile.storage.rstrip('/')}/{study}"

    def mounted_folder(self, study: str) -> Path | None:
        """Where it lies on this machine, if its storage is mounted here."""
        return Path(self.profile.mounted, study) if self.profile.mounted else None

    def environment(self, names: tuple[str, ...] = ()) -> dict[str, str]:
        """The variables that a study gets there: the profile's, and those of this process that are named."""
        wanted = (*self.profile.passed, *names)
        if missing := [name for name in wanted if name not in os.environ]:
            raise UserError(f"variable {missing[0]} is to be passed to the study, but is not set here; set it")
        passed = {name: os.environ[name] for name in wanted}
        return dict(self.profile.env) | self.excluded_nodes | passed | {PLACE_VARIABLE: self.option}

    @property
    def excluded_nodes(self) -> dict[str, str]:
        """The variable that names the excluded machines to a study; empty where there are none."""
        return {EXCLUDED_VARIABLE: ",".join(self.profile.exclude)} if self.profile.exclude else {}

    @property
    def option(self) -> str:
        """What names this cluster on the command line."""
        return f"--address {self.name}" if self.is_address else f"--on {self.name}"


def read_place(on: str | None, address: str | None, storage: str = "/") -> Place:
    """The cluster of `--on PROFILE` or of `--address URL`; a UserError unless exactly one of them is given.

    An address says nothing of storage: `storage` is then where its studies are, under the same path as here.
    """
    if (on is None) == (address is None):
        raise UserError("give either --on PROFILE or --address http://HOST:8265, which say on which cluster")
    if address is not None:
        return Place(address, RayProfile(kind="ray", storage=storage, dashboard=address), is_address=True)
    assert on is not None
    file = find_profile(on)
    return Place(file.stem, read_profile(file))


def find_profile(name: str) -> Path:
    """The file of a profile: `name` itself, or NAME.yaml in one of the usual folders."""
    given = Path(name).expanduser()
    if given.suffix in (".yaml", ".yml"):
        return given
    folders = [folder.expanduser() for folder in FOLDERS]
    found = [file for folder in folders if (file := folder / f"{name}.yaml").is_file()]
    if found:
        return found[0]
    known = [file.stem for folder in folders for file in sorted(folder.glob("*.yaml"))]
    where = " or ".join(f"{folder}/{name}.yaml" for folder in FOLDERS)
    raise UserError(f"no profile '{name}'; {unknown_name(name, known) if known else f'write {where}'}")


def read_profile(file: Path) -> Profile:
    """The profile in a YAML file."""
    content = read_yaml(file)
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{file}: kind is {kind!r}; {unknown_name(str(kind), KINDS)}")
    return validate(KINDS[kind], content, str(file))


@contextlib.contextmanager
def open_place(place: Place) -> Iterator[Jobs]:
    """The cluster's jobs, for the time of the block; what goes wrong with the cluster is a UserError."""
    with explain(), contextlib.ExitStack() as stack:
        endpoint = find_endpoint(place.profile, place.name)
        if endpoint.token_file is not None:
            use_token_file(endpoint.token_file)
        if tunnel := place.profile.tunnel:
            yield open_jobs(stack.enter_context(open_tunnel(tunnel, endpoint.dashboard)))
        else:
            yield open_jobs(endpoint.dashboard)


@contextlib.contextmanager
def explain() -> Iterator[None]:
    """Raise a cluster's error as a UserError."""
    try:
        yield
    except ClusterError as error:
        raise UserError(str(error)) from None


def map_paths(profile: Profile, values: Mapping[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    """Values of which those under `keys` are paths of this machine, with the paths that the cluster has."""
    return {
        key: profile.path_there(value) if key in keys and isinstance(value, str) else value
        for key, value in values.items()
    }
