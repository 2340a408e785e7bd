"""The kinds of clusters: the profile of each, where a cluster is reached, and the files with which others start one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter

from cluster.errors import ClusterError
from cluster.kuberay.manifests import make_ray_cluster, make_ray_job, to_yaml
from cluster.kuberay.profile import KubeRayProfile
from cluster.machines.profile import MachinesProfile
from cluster.machines.up import write_token
from cluster.profiles.profile import Profile, RayProfile
from cluster.slurm.commands import find_cluster, read_token
from cluster.slurm.excluded import name_excluded
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import make_script
from cluster.vms.profile import SkyPilotProvider, VmsProfile
from cluster.vms.ray_up import make_ray_up
from cluster.vms.skypilot import make_skypilot

KINDS: MappingProxyType[str, type[Profile]] = MappingProxyType(
    {
        "ray": RayProfile,
        "machines": MachinesProfile,
        "slurm": SlurmProfile,
        "kuberay": KubeRayProfile,
        "vms": VmsProfile,
    }
)
AnyProfile = Annotated[
    RayProfile | MachinesProfile | SlurmProfile | KubeRayProfile | VmsProfile, Field(discriminator="kind")
]
TOKENS = Path("~/.config/decred-study/tokens")  # of clusters that are started from here


@dataclass(frozen=True)
class Endpoint:
    """Where a cluster takes jobs, and the file with its token; None where Ray finds it by itself."""

    dashboard: str
    token_file: Path | None


def find_endpoint(profile: Profile, name: str) -> Endpoint:
    """Where the cluster called `name` takes jobs. A ClusterError where its profile does not say, or it is not up."""
    token_file = Path(profile.token_file).expanduser() if profile.token_file else None
    if isinstance(profile, MachinesProfile):
        return Endpoint(profile.dashboard_url(name), token_file or own_token_file(name))
    if isinstance(profile, SlurmProfile):
        running = find_cluster(profile, name)
        if running is None:
            raise ClusterError(f"cluster {name} is not up; see `decred-study cluster status {name}`")
        token_file = token_file or write_token(own_token_file(name), read_token(profile, running))
        return Endpoint(profile.dashboard or running.dashboard, token_file)
    if profile.dashboard is None:
        raise ClusterError(f"profile {name}: names no dashboard; give the head's, http://HOST:8265")
    return Endpoint(profile.dashboard, token_file)


def make_profile_schema() -> str:
    """The JSON schema of profiles of all kinds."""
    return json.dumps(TypeAdapter(AnyProfile).json_schema(), indent=2) + "\n"


def own_token_file(name: str) -> Path:
    """The file with the token of a cluster that was started from here."""
    return TOKENS.expanduser() / name


def render(profile: Profile, name: str, command: Sequence[str] | None) -> tuple[str, str]:
    """The file with which a cluster is started by other tools, and the command line that takes it.

    With a command, which starts with `python`, the cluster runs it and goes away; `{head}` in it is the head's address.
    """
    if isinstance(profile, SlurmProfile):
        words = [profile.python, *command[1:]] if command else None
        return make_script(name_excluded(profile), name, words), f"sbatch {name}.sh"
    if isinstance(profile, KubeRayProfile):
        entrypoint = None if command is None else _join(command, "auto")
        manifest = make_ray_cluster(profile, name) if entrypoint is None else make_ray_job(profile, name, entrypoint)
        return to_yaml(manifest), f"kubectl apply -f {name}.yaml"
    if isinstance(profile, VmsProfile):
        if isinstance(profile.provider, SkyPilotProvider):
            task = make_skypilot(profile, name, None if command is None else _join(command, "auto"))
            return yaml.safe_dump(task, sort_keys=False), f"sky launch -c {name} {name}.yaml"
        if command is not None:
            raise ClusterError(f"profile {name}: `ray up` starts a cluster and no study; submit it to the cluster")
        return yaml.safe_dump(make_ray_up(profile, name), sort_keys=False), f"ray up {name}.yaml"
    kind = getattr(profile, "kind", "?")
    raise ClusterError(
        f"profile {name} is of the kind {kind}, for which there is no file; see `decred-study cluster up`"
    )


def _join(command: Sequence[str], head: str) -> str:
    return shlex.join(word.replace("{head}", head) for word in command)
