"""Manifests against the schemas of KubeRay's CRDs, and what they say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cluster.errors import ClusterError
from cluster.kuberay.manifests import make_ray_cluster, make_ray_job, to_yaml
from cluster.kuberay.profile import KubeRayProfile

Make = Callable[..., KubeRayProfile]
Check = Callable[[dict[str, Any]], list[str]]
CPU_GROUP = {"name": "cpu", "cpus": 8, "memory": "32Gi", "replicas": 0, "min_replicas": 0, "max_replicas": 6}
SPOT_GROUP = {
    "name": "spot",
    "cpus": 16,
    "memory": "128Gi",
    "gpus": 8,
    "node_selector": {"cloud.example/gpu": "h100"},
    "tolerations": [
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Equal", "value": "1"},
    ],
}
DELETION = [
    {"status": "SUCCEEDED", "policy": "DeleteCluster", "ttl_seconds": 60},
    {"status": "FAILED", "policy": "DeleteCluster", "ttl_seconds": 3600},
]
PROFILES: dict[str, dict[str, Any]] = {
    "plain": {},
    "groups": {"workers": [CPU_GROUP, SPOT_GROUP], "idle_seconds": 120},
    "queue": {"queue": "speech", "priority_class": "batch", "workers": [SPOT_GROUP]},
    "secrets": {
        "token_secret": "ray-token",
        "env_secrets": ["mlflow"],
        "pass_env": ["MLFLOW_TRACKING_PASSWORD"],
        "pass_env_secret": "passwords",
        "image_pull_secrets": ["registry"],
        "service_account": "studies",
        "user": None,
    },
    "deletion": {"deletion": DELETION, "submission_mode": "SidecarMode", "start_seconds": 900},
    "time": {"ttl_seconds": 600, "submission_mode": "K8sJobMode", "env": {"GLOO_SOCKET_IFNAME": "eth0"}},
}


def job(profile: KubeRayProfile, **options: Any) -> dict[str, Any]:
    return make_ray_job(profile, "tedlium", "decred-study run /shared/tedlium.yaml", **options)


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"]["containers"][0] for group in groups]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


@pytest.mark.parametrize("name", PROFILES)
def test_manifests_have_no_field_that_the_crd_does_not_know(name: str, make_profile: Make, check_schema: Check) -> None:
    profile = make_profile(**PROFILES[name])
    assert check_schema(make_ray_cluster(profile, "tedlium")) == []
    assert check_schema(job(profile)) == []


@pytest.mark.parametrize("place", ["spec", "head", "pod", "container", "volume", "auth"])
def test_a_field_that_the_crd_does_not_know_is_found_anywhere(
    place: str, make_profile: Make, check_schema: Check
) -> None:
    manifest = make_ray_cluster(make_profile(), "tedlium")
    spec = manifest["spec"]
    pod = spec["headGroupSpec"]["template"]["spec"]
    places = {"spec": spec, "head": spec["headGroupSpec"], "pod": pod, "auth": spec["authOptions"]}
    places |= {"container": pod["containers"][0], "volume": pod["volumes"][0]}
    places[place]["imagee"] = "x"
    (fault,) = check_schema(manifest)
    assert "'imagee' was unexpected" in fault


def test_a_value_of_another_type_is_found(make_profile: Make, check_schema: Check) -> None:
    manifest = job(make_profile())
    manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = "two"
    (fault,) = check_schema(manifest)
    assert "'two' is not of type 'integer'" in fault


def test_yaml_reads_back_as_the_manifest_without_aliases(make_profile: Make) -> None:
    manifest = job(make_profile(**PROFILES["groups"]))
    text = to_yaml(manifest)
    assert yaml.safe_load(text) == manifest
    assert "&id" not in text
    assert text.startswith("apiVersion: ray.io/v1\nkind: RayJob\n")


def test_processes_get_the_ports_that_ray_gives_its_workers(make_profile: Make) -> None:
    spec = make_ray_cluster(make_profile(worker_ports=[20000, 20999]), "tedlium")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        params = group["rayStartParams"]
        assert (params["min-worker-port"], params["max-worker-port"]) == ("20000", "20999")
    for container in containers(spec):
        assert variables(container)["DECRED_WORKER_PORTS"] == "20000-20999"


def test_a_stopped_study_has_a_minute_to_end_before_its_pod_is_killed(make_profile: Make) -> None:
    head = make_ray_cluster(make_profile(), "tedlium")["spec"]["headGroupSpec"]["template"]["spec"]
    seconds = int(variables(head["containers"][0])["RAY_JOB_STOP_WAIT_TIME_S"])
    assert seconds == 60
    assert head["terminationGracePeriodSeconds"] > seconds


def test_the_head_runs_trials_only_where_the_profile_says_so(make_profile: Make) -> None:
    def head_params(**changes: Any) -> dict[str, str]:
        return make_ray_cluster(make_profile(**changes), "tedlium")["spec"]["headGroupSpec"]["rayStartParams"]

    assert head_params()["num-cpus"] == "0"
    assert "num-cpus" not in head_params(head={"trials": True})


def test_every_pod_mounts_the_volume_and_memory_for_pytorch(make_profile: Make) -> None:
    spec = make_ray_cluster(make_profile(shared_memory="4Gi"), "tedlium")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounts["/shared"]]["persistentVolumeClaim"] == {"claimName": "studies"}
        assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}


def test_gpus_are_asked_for_by_groups_that_have_them(make_profile: Make) -> None:
    spec = make_ray_cluster(make_profile(workers=[CPU_GROUP, SPOT_GROUP]), "tedlium")["spec"]
    head, cpu, spot = (container["resources"]["limits"] for container in containers(spec))
    assert "nvidia.com/gpu" not in head | cpu
    assert spot == {"cpu": 16, "memory": "128Gi", "nvidia.com/gpu": 8}


def test_the_autoscaler_runs_where_a_group_may_grow(make_profile: Make) -> None:
    fixed = make_ray_cluster(make_profile(), "tedlium")["spec"]
    growing = make_ray_cluster(make_profile(workers=[CPU_GROUP], idle_seconds=90), "tedlium")["spec"]
    assert "enableInTreeAutoscaling" not in fixed
    assert growing["enableInTreeAutoscaling"] is True
    assert growing["autoscalerOptions"]["idleTimeoutSeconds"] == 90


def test_kuberay_makes_the_token_unless_a_secret_is_named(make_profile: Make) -> None:
    def auth(**changes: Any) -> dict[str, str]:
        return make_ray_cluster(make_profile(**changes), "tedlium")["spec"]["authOptions"]

    assert auth() == {"mode": "token"}
    assert auth(token_secret="ray-token") == {"mode": "token", "secretName": "ray-token"}


def test_a_failed_job_starts_again_and_its_cluster_goes_away(make_profile: Make) -> None:
    spec = job(make_profile(backoff_limit=5, ttl_seconds=600))["spec"]
    assert spec["backoffLimit"] == 5
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] == 600
    assert "deletionStrategy" not in spec


def test_deletion_rules_take_the_place_of_the_time(make_profile: Make) -> None:
    spec = job(make_profile(deletion=DELETION))["spec"]
    assert spec["shutdownAfterJobFinishes"] is False
    assert "ttlSecondsAfterFinished" not in spec
    assert [rule["condition"]["ttlSeconds"] for rule in spec["deletionStrategy"]["deletionRules"]] == [60, 3600]


def test_a_job_gets_the_profiles_variables_and_its_own(make_profile: Make) -> None:
    manifest = job(make_profile(env={"A": "profile", "B": "profile"}), env={"B": "job"})
    env = yaml.safe_load(manifest["spec"]["runtimeEnvYAML"])["env_vars"]
    assert (env["A"], env["B"]) == ("profile", "job")
    assert env["RAY_CHDIR_TO_TRIAL_DIR"] == "0"  # as a job that is submitted gets them


def test_secrets_are_named_and_not_written(make_profile: Make) -> None:
    spec = make_ray_cluster(make_profile(env_secrets=["mlflow"]), "tedlium")["spec"]
    for container in containers(spec):
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow"}}]


def test_variables_that_are_passed_come_from_their_secret_and_their_values_are_nowhere(
    make_profile: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    profile = make_profile(pass_env=["MLFLOW_TRACKING_PASSWORD"], pass_env_secret="passwords")
    manifest = job(profile)
    for container in containers(manifest["spec"]["rayClusterSpec"]):
        (passed,) = [variable for variable in container["env"] if "valueFrom" in variable]
        reference = {"name": "passwords", "key": "MLFLOW_TRACKING_PASSWORD"}
        assert passed == {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": {"secretKeyRef": reference}}
    assert "MLFLOW" not in manifest["spec"]["runtimeEnvYAML"]
    assert "hidden" not in to_yaml(manifest)
    assert profile.passed == (), "a study that is submitted takes them along"


def test_a_job_takes_no_variable_along_that_no_secret_gives(make_profile: Make) -> None:
    profile = make_profile(pass_env=["MLFLOW_TRACKING_PASSWORD"])
    message = (
        r"^RayJob 'tedlium': it cannot take MLFLOW_TRACKING_PASSWORD of pass_env along, since everybody may read its "
        "manifest; make a Secret of them, and name it in pass_env_secret$"
    )
    with pytest.raises(ClusterError, match=message):
        job(profile)
    assert containers(make_ray_cluster(profile, "tedlium")["spec"]), "studies that are submitted bring their own"
    assert profile.passed == ("MLFLOW_TRACKING_PASSWORD",)


def test_kueue_finds_its_queue_on_clusters_and_jobs(make_profile: Make) -> None:
    profile = make_profile(queue="speech")
    for manifest in (make_ray_cluster(profile, "tedlium"), job(profile)):
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "speech"


def test_what_the_operator_would_refuse_is_not_made(make_profile: Make) -> None:
    with pytest.raises(ClusterError, match=r"^RayCluster '1-study': the name must consist of a-z"):
        make_ray_cluster(make_profile(), "1-study")
    with pytest.raises(ClusterError, match=r"^RayJob 'tedlium': Kueue excludes autoscaling"):
        job(make_profile(queue="speech", workers=[CPU_GROUP]))


def test_making_a_manifest_changes_no_other(make_profile: Make) -> None:
    profile = make_profile(**PROFILES["groups"])
    first = make_ray_cluster(profile, "tedlium")
    kept = copy.deepcopy(first)
    make_ray_cluster(profile, "other")["spec"]["workerGroupSpecs"].clear()
    assert first == kept
