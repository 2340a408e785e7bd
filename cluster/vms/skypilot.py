"""The file of SkyPilot: a Ray cluster of our own on machines of any cloud."""

from __future__ import annotations

from typing import Any

from cluster.errors import ClusterError
from cluster.vms.commands import HEAD_PORT, list_files, list_setup, start_head, start_worker
from cluster.vms.profile import SkyPilotProvider, VmsProfile

# SkyPilot runs a Ray of its own on each machine, with a head at port 6380: `ray stop` would end that one too. What
# listens at these ports is ours, so that a machine on which our Ray runs is left as it is. Two Rays on one machine need
# two ports for their agents, or the second one's dashboard takes no jobs.
NODE_PORT, AGENT_PORT = 6390, 52366
WAIT_SECONDS = 600  # for the head, which may be prepared later than a worker


def make_skypilot(profile: VmsProfile, name: str, entrypoint: str | None = None) -> dict[str, Any]:
    """The file of `sky launch` for the cluster `name`; the head runs the command `entrypoint`, if one is given.

    Raises ClusterError where the profile's machines are not SkyPilot's.
    """
    provider = profile.provider
    if not isinstance(provider, SkyPilotProvider):
        raise ClusterError(
            f"the provider of '{name}' is {provider.type}, but SkyPilot's file needs provider.type skypilot"
        )
    task: dict[str, Any] = {
        "name": name,
        "num_nodes": provider.nodes,
        "resources": _make_resources(provider, profile.idle_minutes),
        "file_mounts": list_files(profile),
        "setup": "\n".join(["set -e", *list_setup(profile)]) + "\n",
        "run": _make_script(profile, entrypoint),
    }
    return task | ({"envs": dict(profile.env)} if profile.env else {})


def _make_resources(provider: SkyPilotProvider, idle_minutes: int) -> dict[str, Any]:
    resources: dict[str, Any] = {
        "infra": provider.infra,
        "accelerators": provider.accelerators,
        "cpus": provider.cpus,
        "memory": provider.memory,
        "image_id": provider.image,
        "use_spot": provider.spot,
        "disk_size": provider.disk_gib,
        "autostop": {"idle_minutes": idle_minutes, "down": True},
    }
    return {key: value for key, value in resources.items() if value is not None}


def _make_script(profile: VmsProfile, entrypoint: str | None) -> str:
    """What each machine runs: the first in SkyPilot's list is the head."""
    ports = (f"--node-manager-port={NODE_PORT}", f"--dashboard-agent-listen-port={AGENT_PORT}")
    head = start_head(profile, *ports)
    worker = start_worker(profile, '"$HEAD"', *ports)
    lines = [
        "set -e",
        'HEAD=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)',
        'listens() { (exec 3<>"/dev/tcp/$1/$2") 2> /dev/null; }',
        'if [ "$SKYPILOT_NODE_RANK" = 0 ]; then',
        f"  listens 127.0.0.1 {NODE_PORT} || {{ {head}; }}",
        "else",
        f'  for _ in $(seq {WAIT_SECONDS}); do listens "$HEAD" {HEAD_PORT} && break; sleep 1; done',
        f"  listens 127.0.0.1 {NODE_PORT} || {{ {worker}; }}",
        "fi",
        "sleep 5  # SkyPilot ends what the script has started, until it has detached itself",
    ]
    if entrypoint is not None:
        lines.append(f'if [ "$SKYPILOT_NODE_RANK" = 0 ]; then {entrypoint}; fi')
    return "\n".join(lines) + "\n"
