"""What the KubeRay operator and Kueue demand of a manifest beyond the schema of its CRD.

The API server accepts what breaks these rules; the operator refuses it afterwards, in an event that nobody reads. They
are those of KubeRay 1.7 (ray-operator/controllers/ray/utils/validation.go) and of Kueue's webhooks for Ray. The checks
of a profile's single values are here too: they raise ValueError, which pydantic reports with the key's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cluster.errors import ClusterError

NAME_LIMIT = 47  # of a RayJob; a RayCluster may have 53, but one name serves for either
OLDEST_WITH_TOKEN = (2, 52)
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MOST_GROUPS_WITH_KUEUE = 7  # a workload has at most eight sets of pods, and the head is one
# Ports that processes of a Ray pod listen on: control service, Serve, metrics, dashboard, client, dashboard agent.
FIXED_PORTS = (6379, 8000, 8080, 8265, 10001, 52365)
PORTS_NEEDED = 100
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_UNITS = {
    unit + binary: (1024 if binary else 1000) ** power for power, unit in enumerate("kMGTP", 1) for binary in ("", "i")
}
_UNITS |= {"Ki": 1024, "": 1}


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise a ClusterError with the first fault of a RayCluster or RayJob that the operator or Kueue would refuse."""
    for fault in find_faults(manifest):
        raise ClusterError(f"{manifest['kind']} '{manifest['metadata']['name']}': {fault}")


def find_faults(manifest: Mapping[str, Any]) -> list[str]:
    """All that the operator or Kueue would refuse, each in one line that says what to change."""
    spec, labels = manifest["spec"], manifest["metadata"].get("labels", {})
    is_job = manifest["kind"] == "RayJob"
    cluster = spec.get("rayClusterSpec") if is_job else spec
    faults = list(_check_name(manifest["metadata"]["name"]))
    if is_job:
        faults += _check_job(spec)
    if cluster is not None:
        faults += _check_cluster(cluster)
        if QUEUE_LABEL in labels:
            faults += _check_queue(cluster, spec if is_job else None)
    return faults


def check_replicas(group: str, fewest: int, replicas: int, most: int) -> None:
    """Raise ValueError unless fewest <= replicas <= most; the operator would cut `replicas` without a word."""
    if not fewest <= replicas <= most:
        raise ValueError(
            f"group '{group}' has {replicas} replicas, but must have from {fewest} (min_replicas) "
            f"to {most} (max_replicas)"
        )


def check_storage(storage: str, mount: str) -> None:
    """Raise ValueError unless the folder of the studies lies on the volume that all pods share."""
    if ".." in PurePosixPath(storage).parts or not PurePosixPath(storage).is_relative_to(mount):
        raise ValueError(
            f"storage is '{storage}', but must lie below '{mount}', where the volume is mounted: "
            "what lies elsewhere is lost with its pod"
        )


def check_mount(mount: str) -> None:
    """Raise ValueError where the volume would hide folders that a container needs."""
    if PurePosixPath("/dev/shm").is_relative_to(mount) or mount.rstrip("/") in ("/tmp", "/usr", "/home"):
        raise ValueError(f"mount is '{mount}', which would hide folders of the image; mount the volume at /shared")


def check_worker_ports(low: int, high: int) -> None:
    """Raise ValueError unless the ports are enough, and none of them is another process's."""
    if high - low + 1 < PORTS_NEEDED:
        raise ValueError(f"worker_ports are {low} to {high}, but must be at least {PORTS_NEEDED} ports, lowest first")
    taken = [str(port) for port in FIXED_PORTS if low <= port <= high]
    if taken:
        raise ValueError(f"worker_ports are {low} to {high}, but other processes of Ray have {', '.join(taken)}")


def check_shared_memory(shared: str, memory: str) -> None:
    """Raise ValueError unless /dev/shm is smaller than the memory of its pod, of which it is a part."""
    if count_bytes(shared) >= count_bytes(memory):
        raise ValueError(
            f"shared_memory is {shared}, but must be less than the memory of each pod, of which one has {memory}"
        )


def check_variables(passed: Sequence[str], env: Mapping[str, str]) -> None:
    """Raise ValueError unless the variables that are passed can be keys of a Secret, and no other value is set too."""
    for name in passed:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"pass_env has '{name}', but a variable's name has letters, digits and _")
        if name in env:
            raise ValueError(f"both pass_env and env have {name}; leave it out of one of them")


def count_bytes(quantity: str) -> float:
    """A quantity of Kubernetes, such as 8Gi or 500M, in bytes."""
    number = quantity.rstrip("kKMGTPi")
    return float(number) * _UNITS[quantity[len(number) :]]


def _check_name(name: str) -> Iterator[str]:
    if len(name) > NAME_LIMIT:
        yield f"the name has {len(name)} characters, but may have at most {NAME_LIMIT}; choose a shorter one"
    if not _DNS_LABEL.fullmatch(name):
        yield "the name must consist of a-z, 0-9 and '-', with a letter first and no '-' at the end"


def _check_cluster(spec: Mapping[str, Any]) -> Iterator[str]:
    groups = {"head": spec["headGroupSpec"]}
    groups |= {group["groupName"]: group for group in spec.get("workerGroupSpecs", ())}
    for name, group in groups.items():
        yield from _check_group(name, group)
    scaled = spec.get("enableInTreeAutoscaling", False)
    version = spec.get("autoscalerOptions", {}).get("version")
    for name, group in groups.items():
        if scaled and version == "v2" and _restarts(group):
            yield f"group '{name}' has a restartPolicy, but Ray's autoscaler v2 starts pods itself; leave it out"
        if group.get("suspend") and scaled:
            yield f"group '{name}' is suspended, which autoscaling excludes; set enableInTreeAutoscaling: false"
    if spec.get("authOptions", {}).get("mode") == "token":
        given = spec.get("rayVersion", "")
        if not re.match(r"\d+\.\d+", given) or tuple(map(int, given.split(".")[:2])) < OLDEST_WITH_TOKEN:
            yield f"rayVersion is '{given}', but a token needs 2.52.0 or later; set ray_version to that of the image"


def _check_group(name: str, group: Mapping[str, Any]) -> Iterator[str]:
    if not group["template"]["spec"].get("containers"):
        yield f"group '{name}' has no container; give it one that runs the image"
    fewest, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
    replicas = group.get("replicas", fewest)
    if not fewest <= replicas <= most:
        yield f"group '{name}' has {replicas} replicas, but must have from {fewest} to {most}"
    started = {"num-cpus", "num-gpus", "memory", "resources"} & group.get("rayStartParams", {}).keys()
    if started and group.get("resources"):
        yield f"group '{name}' has both resources and the start parameter {min(started)}; use one of them"


def _check_job(spec: Mapping[str, Any]) -> Iterator[str]:
    mode, ends = spec.get("submissionMode", "K8sJobMode"), spec.get("shutdownAfterJobFinishes", False)
    existing = bool(spec.get("clusterSelector"))
    if not existing and spec.get("rayClusterSpec") is None:
        yield "there is neither rayClusterSpec nor clusterSelector; give one of them"
    if spec.get("suspend") and not ends:
        yield "a suspended job needs shutdownAfterJobFinishes: true"
    if spec.get("suspend") and existing:
        yield "a job on an existing cluster (clusterSelector) cannot be suspended"
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield "InteractiveMode excludes backoffLimit; set it to 0"
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec.get(key):
                yield f"SidecarMode excludes {key}; leave it out, or use K8sJobMode"
        if _restarts(spec.get("rayClusterSpec", {}).get("headGroupSpec", {})):
            yield "SidecarMode needs restartPolicy: Never for the head; leave restartPolicy out"
    for key in ("backoffLimit", "ttlSecondsAfterFinished"):
        if spec.get(key, 0) < 0:
            yield f"{key} is {spec[key]}, but must be 0 or more"
    yield from _check_deletion(spec, ends)


def _check_deletion(spec: Mapping[str, Any], ends: bool) -> Iterator[str]:
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not ends:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes: true, and so excludes deletionStrategy's rules"
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    if rules and ends:
        yield "deletionStrategy's rules exclude shutdownAfterJobFinishes; set one of them"
    order = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
    for status in {rule["condition"].get("jobStatus") for rule in rules}:
        chosen = [rule for rule in rules if rule["condition"].get("jobStatus") == status]
        policies = [rule["policy"] for rule in chosen]
        if len(set(policies)) < len(policies):
            yield f"two deletion rules for {status} have the same policy; leave one out"
        seconds = {rule["policy"]: rule["condition"].get("ttlSeconds", 0) for rule in chosen}
        times = [seconds[policy] for policy in order if policy in seconds]
        if times != sorted(times):
            yield f"deletion rules for {status} must delete workers first, then the cluster, then the job itself"
    scaled = (spec.get("rayClusterSpec") or {}).get("enableInTreeAutoscaling", False)
    if scaled and any(rule["policy"] == "DeleteWorkers" for rule in rules):
        yield "the deletion policy DeleteWorkers excludes autoscaling; use DeleteCluster"


def _check_queue(cluster: Mapping[str, Any], job: Mapping[str, Any] | None) -> Iterator[str]:
    groups = cluster.get("workerGroupSpecs", ())
    if cluster.get("enableInTreeAutoscaling"):
        yield "Kueue excludes autoscaling; leave the queue out, or min_replicas and max_replicas"
    if len(groups) > MOST_GROUPS_WITH_KUEUE:
        yield f"there are {len(groups)} groups of workers, but Kueue takes at most {MOST_GROUPS_WITH_KUEUE}"
    if any(group["groupName"] == "head" for group in groups):
        yield "a group of workers is named 'head', which Kueue reserves; name it otherwise"
    if job is not None and not job.get("shutdownAfterJobFinishes", False):
        yield "Kueue needs shutdownAfterJobFinishes: true; leave the deletion rules out, or the queue"


def _restarts(group: Mapping[str, Any]) -> bool:
    policy = group.get("template", {}).get("spec", {}).get("restartPolicy", "Never")
    return bool(policy not in ("", "Never"))
