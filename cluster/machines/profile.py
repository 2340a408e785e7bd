"""The profile of machines that are reached over ssh, or by any other command that runs a shell there."""

from __future__ import annotations

import shlex
import zlib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cluster.profiles.profile import AbsolutePath, Profile, Settings

FIRST_PORT, PORTS, BLOCKS = 20_000, 100, 120  # below the ephemeral ports of Linux, which start at 32768
WORKER_PORTS = 10  # the first of those for workers, within a block; the fixed ones come before


def _check_first_port(port: int) -> int:
    if not 1024 <= port <= 65_535 - PORTS:
        raise ValueError(f"{port} must leave room for {PORTS} ports between 1024 and 65535")
    return port


class Machine(Settings):
    """One machine of the cluster."""

    address: str = Field(description="IP address or host name by which the other machines reach it")
    run: str | None = Field(
        None, description="command that runs another one on it; null = ssh ADDRESS. `ssh -p 2222 me@node1`, for example"
    )
    cpus: Annotated[int, Field(ge=0)] | None = Field(None, description="for trials; null = all that it has")
    gpus: Annotated[int, Field(ge=0)] | None = Field(None, description="for trials; null = all that it has")

    @property
    def command(self) -> list[str]:
        """The words of the command before those that are run there."""
        return shlex.split(self.run) if self.run else ["ssh", "-o", "BatchMode=yes", self.address]


class MachinesProfile(Profile):
    """A head and workers, on each of which the same Python environment lies under the same path."""

    kind: Literal["machines"]
    head: Machine = Field(description="the machine that takes jobs and drives the studies")
    workers: tuple[Machine, ...] = Field((), description="the other machines")
    python: AbsolutePath = Field(description="the environment's Python, on every machine")
    temp: AbsolutePath = Field("/tmp", description="where each machine keeps sockets and logs; a short path")
    ports: Annotated[int, AfterValidator(_check_first_port)] | None = Field(
        None, description=f"the first of {PORTS} ports that the machines use among each other; null = from the name"
    )
    object_store_mib: Annotated[int, Field(ge=80)] = Field(200, description="memory of each machine for Ray's objects")
    start_seconds: Annotated[float, Field(gt=0)] = Field(120.0, description="for a machine to be up")
    stop_seconds: Annotated[float, Field(gt=0)] = Field(30.0, description="for processes to end before they are killed")

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All of them, the head first."""
        return self.head, *self.workers

    def first_port(self, name: str) -> int:
        """The first port of the cluster called `name`, the same whenever it is asked for."""
        return self.ports or FIRST_PORT + zlib.crc32(name.encode()) % BLOCKS * PORTS

    def dashboard_url(self, name: str) -> str:
        """Where the head's dashboard is reached without a tunnel."""
        return self.dashboard or f"http://{self.head.address}:{self.first_port(name) + DASHBOARD}"

    def head_address(self, name: str) -> str:
        """HOST:PORT of the head, for drivers."""
        return f"{self.head.address}:{self.first_port(name) + GCS}"


# What each of the fixed ports is for, counted from the first one.
GCS, DASHBOARD = 0, 1
HEAD_PORTS = {"port": GCS, "dashboard-port": DASHBOARD, "ray-client-server-port": 4}
NODE_PORTS = {
    "dashboard-agent-listen-port": 2,
    "dashboard-agent-grpc-port": 3,
    "node-manager-port": 5,
    "object-manager-port": 6,
    "runtime-env-agent-port": 7,
    "metrics-export-port": 8,
}
