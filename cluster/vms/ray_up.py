"""The file of `ray up`: machines that are there, or machines of Amazon EC2."""

from __future__ import annotations

from typing import Any

from cluster.errors import ClusterError
from cluster.vms.commands import list_files, list_setup, start_head, start_worker, stop
from cluster.vms.profile import AwsProvider, LocalProvider, VmsProfile

HEAD_TYPE, WORKER_TYPE = "head", "worker"
BOOTSTRAP = "--autoscaling-config=~/ray_bootstrap_config.yaml"  # where `ray up` leaves its file on the head


def make_ray_up(profile: VmsProfile, name: str) -> dict[str, Any]:
    """The file of `ray up` for the cluster `name`; a ClusterError where the profile's machines are SkyPilot's."""
    provider = profile.provider
    if isinstance(provider, LocalProvider):
        machines = _make_local(provider)
    elif isinstance(provider, AwsProvider):
        machines = _make_aws(provider, profile)
    else:
        raise ClusterError(
            f"the provider of '{name}' is skypilot, which has a file of its own; `ray up` takes local or aws"
        )
    auth = {"ssh_user": profile.ssh_user}
    if profile.ssh_key is not None:
        auth["ssh_private_key"] = profile.ssh_key
    return {
        "cluster_name": name,
        "idle_timeout_minutes": profile.idle_minutes,
        **machines,
        "auth": auth,
        "file_mounts": list_files(profile),
        "setup_commands": list_setup(profile),
        "head_start_ray_commands": [stop(profile), start_head(profile, BOOTSTRAP)],
        "worker_start_ray_commands": [stop(profile), start_worker(profile, "$RAY_HEAD_IP")],
    }


def _make_local(provider: LocalProvider) -> dict[str, Any]:
    workers = list(provider.worker_ips)
    return {
        "max_workers": len(workers),
        "provider": {"type": "local", "head_ip": provider.head_ip, "worker_ips": workers},
    }


def _make_aws(provider: AwsProvider, profile: VmsProfile) -> dict[str, Any]:
    place = {"type": "aws", "region": provider.region, "cache_stopped_nodes": False}
    if provider.zones:
        place["availability_zone"] = ",".join(provider.zones)
    head = _make_node(provider, provider.head_instance)
    if provider.instance_profile is not None:
        head["IamInstanceProfile"] = {"Arn": provider.instance_profile}
    worker = _make_node(provider, provider.worker_instance)
    if provider.spot:
        worker["InstanceMarketOptions"] = {"MarketType": "spot"}
    return {
        "max_workers": provider.max_workers,
        "provider": place,
        "head_node_type": HEAD_TYPE,
        "available_node_types": {
            HEAD_TYPE: {
                # What is given here, the autoscaler believes before it believes the machine.
                "resources": {} if profile.head_trials else {"CPU": 0, "GPU": 0},
                "min_workers": 0,
                "max_workers": 0,
                "node_config": head,
            },
            WORKER_TYPE: {
                "resources": {},
                "min_workers": provider.min_workers,
                "max_workers": provider.max_workers,
                "node_config": worker,
            },
        },
        # The autoscaler runs on the head, and starts machines with boto3.
        "head_setup_commands": [f"{profile.environment}/bin/pip install --quiet boto3"],
    }


def _make_node(provider: AwsProvider, instance: str) -> dict[str, Any]:
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": provider.disk_gib, "VolumeType": "gp3"}}
    node: dict[str, Any] = {"InstanceType": instance, "BlockDeviceMappings": [disk]}
    if provider.ami is not None:
        node["ImageId"] = provider.ami
    if provider.key_name is not None:
        node["KeyName"] = provider.key_name
    return node
