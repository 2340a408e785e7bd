"""Profiles of kind `vms`: machines that `ray up` or SkyPilot prepares and joins to a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cluster.profiles.profile import Profile, Settings

PORTS_NEEDED = 100


def _check_plain(path: str) -> str:
    if not path.startswith(("/", "~/")) or any(character in path for character in " \t\n'\"$;&|<>()"):
        raise ValueError(f"'{path}' must start with / or ~/ and have no space and no character of the shell")
    return path


# A path on the machines, which commands of the shell name without quotes, since these would hide the ~.
RemotePath = Annotated[str, AfterValidator(_check_plain)]
Port = Annotated[int, Field(ge=1024, le=65535)]


class LocalProvider(Settings):
    """Machines that are there, reached by ssh.

    `ray up` and `ray down` stop every Ray of the ssh user on them; kind `machines` stops nobody else's.
    """

    type: Literal["local"]
    head_ip: str = Field(min_length=1, description="address of the head, as this machine and the workers reach it")
    worker_ips: tuple[str, ...] = Field((), description="addresses of the workers, as the head reaches them")

    @model_validator(mode="after")
    def _check(self) -> Self:
        addresses = (self.head_ip, *self.worker_ips)
        twice = sorted({address for address in addresses if addresses.count(address) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice; a machine is the head or one worker")
        return self


class AwsProvider(Settings):
    """Machines of Amazon EC2, which Ray's autoscaler starts and ends."""

    type: Literal["aws"]
    region: str = Field(min_length=1, description="the region: eu-central-1")
    zones: tuple[str, ...] = Field((), description="availability zones to try, in this order; none = Ray's choice")
    head_instance: str = Field("m6i.2xlarge", description="instance type of the head")
    worker_instance: str = Field(description="instance type of the workers: g6.12xlarge")
    min_workers: int = Field(0, ge=0, description="workers that start with the cluster and stay")
    max_workers: int = Field(ge=1, description="most workers")
    spot: bool = Field(True, description="whether workers are spot instances, which may end at any time; trials resume")
    ami: str | None = Field(None, description="image of all machines, with the GPU's driver; null = Ray's choice")
    key_name: str | None = Field(None, description="name in EC2 of the key pair of ssh_key; null = Ray makes a pair")
    instance_profile: str | None = Field(
        None, description="ARN of the head's instance profile, which may start instances; null = Ray makes a role"
    )
    disk_gib: int = Field(256, ge=64, description="size of each machine's disk in GiB")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers is {self.min_workers}, but must be at most max_workers, {self.max_workers}")
        return self


class SkyPilotProvider(Settings):
    """Machines of any cloud that SkyPilot knows; it looks for the cheapest that fit."""

    type: Literal["skypilot"]
    infra: str | None = Field(None, description="cloud, region and zone: gcp/europe-west4; null = the cheapest")
    accelerators: str | None = Field(None, description="GPUs of a machine: L4:4; null = none")
    cpus: str | None = Field(None, pattern=r"^[0-9]+\+?$", description="CPUs of a machine: 16+; null = as they come")
    memory: str | None = Field(None, pattern=r"^[0-9]+\+?$", description="GB of memory of a machine: 64+")
    nodes: int = Field(1, ge=1, description="machines, the head included")
    spot: bool = Field(False, description="whether machines may be taken away at any time, the head included")
    image: str | None = Field(None, description="the cloud's image, or docker:IMAGE; null = SkyPilot's choice")
    disk_gib: int = Field(256, ge=64, description="size of each machine's disk in GB")


Provider = Annotated[LocalProvider | AwsProvider | SkyPilotProvider, Field(discriminator="type")]


class VmsProfile(Profile):
    """Machines that `ray up` or SkyPilot prepares and joins to a Ray cluster."""

    kind: Literal["vms"]
    provider: Provider = Field(description="where the machines come from")
    ssh_user: str = Field("ubuntu", pattern=r"^[a-z_][a-z0-9_-]*$", description="user of the machines")
    ssh_key: str | None = Field(None, description="private key file on this machine; null = ssh's own choice")
    setup: tuple[str, ...] = Field(
        (), description="shell commands on each machine before all else: system packages, mounting the shared storage"
    )
    files: dict[RemotePath, str] = Field({}, description="files to copy: path on the machines: path on this machine")
    python: str = Field(
        "python3.11",
        pattern=r"^[A-Za-z0-9_./-]+$",
        description="Python of the machines, of the same version as here, that makes their environment",
    )
    environment: RemotePath = Field("~/decred-study", description="folder of the environment on each machine")
    wheel: str | None = Field(
        None,
        pattern=r"\.whl$",
        description="wheel of decred-study on this machine; null = `setup` makes the environment",
    )
    constraints: str | None = Field(None, description="file of pinned versions on this machine; null = the newest")
    extra_packages: tuple[str, ...] = Field((), description="further packages of the environment: psycopg[binary]")
    worker_ports: tuple[Port, Port] = Field(
        (20000, 29999),  # SkyPilot's own Ray has 11002 to 19999
        description="lowest and highest port of Ray's workers and of a training's processes",
    )
    head_trials: bool = Field(
        False, description="whether trials run on the head too; where one exhausts its memory, the whole cluster ends"
    )
    idle_minutes: int = Field(10, ge=1, description="minutes without work after which a machine is given back")

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.worker_ports
        if high - low + 1 < PORTS_NEEDED:
            raise ValueError(
                f"worker_ports are {low} to {high}, but must be at least {PORTS_NEEDED} ports, lowest first"
            )
        provider = self.provider
        if isinstance(provider, AwsProvider) and (provider.key_name is None) != (self.ssh_key is None):
            raise ValueError("ssh_key and provider.key_name belong together: set both, or none, and Ray makes a key")
        alone = isinstance(provider, LocalProvider) and not provider.worker_ips
        alone = alone or (isinstance(provider, SkyPilotProvider) and provider.nodes == 1)
        if alone and not self.head_trials:
            raise ValueError("the head is the only machine, so that trials must run on it; set head_trials: true")
        return self
