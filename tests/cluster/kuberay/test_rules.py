"""Each rule of the operator and of Kueue: what breaks it is found, in the words that say what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.kuberay.manifests import make_ray_cluster, make_ray_job
from cluster.kuberay.profile import KubeRayProfile
from cluster.kuberay.rules import check_manifest, count_bytes, find_faults

Make = Callable[..., KubeRayProfile]
TWO_WORKERS = [
    {"condition": {"jobStatus": "FAILED", "ttlSeconds": 9}, "policy": "DeleteWorkers"},
    {"condition": {"jobStatus": "FAILED", "ttlSeconds": 5}, "policy": "DeleteWorkers"},
]
CLUSTER_FIRST = [
    {"condition": {"jobStatus": "FAILED", "ttlSeconds": 9}, "policy": "DeleteWorkers"},
    {"condition": {"jobStatus": "FAILED", "ttlSeconds": 5}, "policy": "DeleteCluster"},
]
RULES = [{"condition": {"jobStatus": "FAILED"}, "policy": "DeleteWorkers"}]


def set_at(manifest: dict[str, Any], path: str, value: Any) -> None:
    """Set what lies at `a.b.0.c`; None removes it."""
    *parents, last = path.split(".")
    for part in parents:
        manifest = manifest[int(part)] if part.isdigit() else manifest.setdefault(part, {})  # type: ignore[index]
    if value is None:
        del manifest[last]
    else:
        manifest[last] = value


def faults(manifest: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    for path, value in changes.items():
        set_at(manifest, path, value)
    return find_faults(manifest)


GROUP = "spec.workerGroupSpecs.0"
CLUSTER_RULES: list[tuple[dict[str, Any], str]] = [
    ({"metadata.name": "a" * 48}, "the name has 48 characters, but may have at most 47"),
    ({"metadata.name": "Tedlium"}, "the name must consist of a-z, 0-9 and '-', with a letter first"),
    ({"metadata.name": "3rd"}, "the name must consist of a-z"),
    ({"metadata.name": "study-"}, "and no '-' at the end"),
    ({"spec.rayVersion": "2.51.1"}, "rayVersion is '2.51.1', but a token needs 2.52.0 or later"),
    ({"spec.rayVersion": None}, "rayVersion is '', but a token needs 2.52.0 or later"),
    ({"spec.rayVersion": "nightly"}, "rayVersion is 'nightly', but a token needs 2.52.0 or later"),
    ({f"{GROUP}.replicas": 9}, "group 'gpu' has 9 replicas, but must have from 2 to 2"),
    ({f"{GROUP}.template.spec.containers": []}, "group 'gpu' has no container"),
    (
        {f"{GROUP}.resources": {"CPU": "1"}, f"{GROUP}.rayStartParams.num-cpus": "1"},
        "group 'gpu' has both resources and the start parameter num-cpus; use one of them",
    ),
    ({"spec.enableInTreeAutoscaling": True, f"{GROUP}.suspend": True}, "group 'gpu' is suspended"),
    (
        {
            "spec.enableInTreeAutoscaling": True,
            "spec.autoscalerOptions.version": "v2",
            f"{GROUP}.template.spec.restartPolicy": "Always",
        },
        "group 'gpu' has a restartPolicy, but Ray's autoscaler v2 starts pods itself",
    ),
]
JOB_RULES: list[tuple[dict[str, Any], str]] = [
    ({"spec.suspend": True, "spec.shutdownAfterJobFinishes": False}, "a suspended job needs shutdownAfterJobFinishes"),
    ({"spec.suspend": True, "spec.clusterSelector.name": "other"}, "a job on an existing cluster"),
    ({"spec.rayClusterSpec": None}, "there is neither rayClusterSpec nor clusterSelector"),
    ({"spec.submissionMode": "InteractiveMode"}, "InteractiveMode excludes backoffLimit; set it to 0"),
    (
        {"spec.submissionMode": "SidecarMode", "spec.submitterPodTemplate": {"spec": {}}},
        "SidecarMode excludes submitterPodTemplate",
    ),
    (
        {"spec.submissionMode": "SidecarMode", "spec.submitterConfig": {"backoffLimit": 1}},
        "SidecarMode excludes submitterConfig",
    ),
    (
        {
            "spec.submissionMode": "SidecarMode",
            "spec.rayClusterSpec.headGroupSpec.template.spec.restartPolicy": "Always",
        },
        "SidecarMode needs restartPolicy: Never for the head",
    ),
    ({"spec.backoffLimit": -1}, "backoffLimit is -1, but must be 0 or more"),
    ({"spec.ttlSecondsAfterFinished": -5}, "ttlSecondsAfterFinished is -5, but must be 0 or more"),
    (
        {"spec.ttlSecondsAfterFinished": 60, "spec.shutdownAfterJobFinishes": False},
        "ttlSecondsAfterFinished needs shutdownAfterJobFinishes: true",
    ),
    ({"spec.deletionStrategy.deletionRules": RULES}, "rules exclude shutdownAfterJobFinishes; set one of them"),
    (
        {"spec.deletionStrategy.deletionRules": TWO_WORKERS, "spec.shutdownAfterJobFinishes": False},
        "two deletion rules for FAILED have the same policy",
    ),
    (
        {"spec.deletionStrategy.deletionRules": CLUSTER_FIRST, "spec.shutdownAfterJobFinishes": False},
        "deletion rules for FAILED must delete workers first",
    ),
    (
        {
            "spec.deletionStrategy.deletionRules": RULES,
            "spec.shutdownAfterJobFinishes": False,
            "spec.rayClusterSpec.enableInTreeAutoscaling": True,
        },
        "the deletion policy DeleteWorkers excludes autoscaling; use DeleteCluster",
    ),
]
QUEUE_RULES: list[tuple[dict[str, Any], str]] = [
    ({"spec.rayClusterSpec.enableInTreeAutoscaling": True}, "Kueue excludes autoscaling; leave the queue out"),
    ({"spec.rayClusterSpec.workerGroupSpecs.0.groupName": "head"}, "a group of workers is named 'head'"),
    ({"spec.shutdownAfterJobFinishes": False}, "Kueue needs shutdownAfterJobFinishes: true"),
]


@pytest.mark.parametrize(("changes", "words"), CLUSTER_RULES)
def test_a_rule_for_clusters_finds_what_breaks_it(changes: dict[str, Any], words: str, make_profile: Make) -> None:
    (fault,) = faults(make_ray_cluster(make_profile(), "tedlium"), changes)
    assert words in fault


@pytest.mark.parametrize(("changes", "words"), JOB_RULES)
def test_a_rule_for_jobs_finds_what_breaks_it(changes: dict[str, Any], words: str, make_profile: Make) -> None:
    (fault,) = faults(make_ray_job(make_profile(), "tedlium", "true"), changes)
    assert words in fault


@pytest.mark.parametrize(("changes", "words"), QUEUE_RULES)
def test_a_rule_of_kueue_holds_where_a_queue_is_named(changes: dict[str, Any], words: str, make_profile: Make) -> None:
    (fault,) = faults(make_ray_job(make_profile(queue="speech"), "tedlium", "true"), changes)
    assert words in fault
    assert faults(make_ray_job(make_profile(), "tedlium", "true"), changes) == []


def test_kueue_takes_seven_groups_of_workers_and_no_more(make_profile: Make) -> None:
    groups = [{"name": f"group-{number}", "cpus": 1, "memory": "16Gi"} for number in range(8)]
    make_ray_cluster(make_profile(queue="speech", workers=groups[:7]), "tedlium")
    with pytest.raises(ClusterError, match="there are 8 groups of workers, but Kueue takes at most 7"):
        make_ray_cluster(make_profile(queue="speech", workers=groups), "tedlium")


def test_a_fault_comes_with_the_kind_and_name_of_its_object(make_profile: Make) -> None:
    manifest = make_ray_job(make_profile(), "tedlium", "true")
    check_manifest(manifest)
    manifest["spec"]["backoffLimit"] = -1
    with pytest.raises(ClusterError, match=r"^RayJob 'tedlium': backoffLimit is -1, but must be 0 or more$"):
        check_manifest(manifest)


def test_names_of_47_characters_pass(make_profile: Make) -> None:
    assert make_ray_job(make_profile(), "a" * 47, "true")["metadata"]["name"] == "a" * 47


@given(number=st.integers(1, 9999), unit=st.sampled_from(["", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti", "P", "Pi"]))
def test_a_binary_unit_is_more_than_its_decimal_one(number: int, unit: str) -> None:
    there = count_bytes(f"{number}{unit}")
    powers = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
    base = 1024 if unit.endswith("i") else 1000
    assert there == number * base ** powers.get(unit[:1], 0)
