"""Manifests of KubeRay: a RayCluster that stays, or a RayJob that starts a cluster for one study and ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cluster.connect import SETTINGS
from cluster.errors import ClusterError
from cluster.kuberay.profile import DeletionRule, Head, KubeRayProfile, Pod, WorkerGroup
from cluster.kuberay.rules import QUEUE_LABEL, check_manifest

API_VERSION = "ray.io/v1"
# What the operator and its services look for, by these names.
HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
SHARED_VOLUME, MEMORY_VOLUME = "shared", "memory"
# The end of a study writes its checkpoints and its ledger; Ray would kill it after 3 s.
STOP_SECONDS = 60
# `ray start` takes up to 30 s to end a node after SIGTERM; Kubernetes kills after 30 s if no other time is set.
GRACE_SECONDS = STOP_SECONDS + 30


def make_ray_cluster(profile: KubeRayProfile, name: str) -> dict[str, Any]:
    """The RayCluster `name`, whose dashboard takes studies as jobs until it is deleted.

    Raises ClusterError where the operator or Kueue would refuse it.
    """
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "RayCluster",
        "metadata": _make_metadata(profile, name),
        "spec": _make_cluster_spec(profile, name),
    }
    check_manifest(manifest)
    return manifest


def make_ray_job(
    profile: KubeRayProfile, name: str, entrypoint: str, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The RayJob `name`, which starts a cluster, runs the command `entrypoint` on its head and deletes the cluster.

    Where the command or the cluster fails, the operator runs the same command on a new cluster, `backoff_limit` times;
    a study continues there from its ledger on the shared volume. `env` is for the study and is readable in the
    manifest: credentials belong into the Secrets of `env_secrets` and `pass_env_secret`. Raises ClusterError where the
    operator or Kueue would refuse it, and where `pass_env` has variables that no Secret gives.
    """
    if profile.passed:
        raise ClusterError(
            f"RayJob '{name}': it cannot take {', '.join(profile.passed)} of pass_env along, since everybody may read "
            "its manifest; make a Secret of them, and name it in pass_env_secret"
        )
    spec: dict[str, Any] = {
        "entrypoint": entrypoint,
        "submissionMode": profile.submission_mode,
        "backoffLimit": profile.backoff_limit,
        "runtimeEnvYAML": yaml.safe_dump({"env_vars": SETTINGS | profile.env | dict(env or {})}, sort_keys=True),
        "rayClusterSpec": _make_cluster_spec(profile, name),
    }
    if profile.deletion:
        spec["shutdownAfterJobFinishes"] = False
        spec["deletionStrategy"] = {"deletionRules": [_make_deletion_rule(rule) for rule in profile.deletion]}
    else:
        spec["shutdownAfterJobFinishes"] = True
        spec["ttlSecondsAfterFinished"] = profile.ttl_seconds or 0
    if profile.start_seconds is not None:
        spec["preRunningDeadlineSeconds"] = profile.start_seconds
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "RayJob",
        "metadata": _make_metadata(profile, name),
        "spec": spec,
    }
    check_manifest(manifest)
    return manifest


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """A manifest as `kubectl apply -f -` reads it."""
    return yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True, width=120)


def _make_metadata(profile: KubeRayProfile, name: str) -> dict[str, Any]:
    labels = _make_labels(name)
    if profile.queue is not None:
        labels[QUEUE_LABEL] = profile.queue
    return {"name": name, "namespace": profile.namespace, "labels": labels}


def _make_labels(name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "decred-study",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "decred-study",
    }


def _make_cluster_spec(profile: KubeRayProfile, name: str) -> dict[str, Any]:
    auth = {"mode": "token"}
    if profile.token_secret is not None:
        auth["secretName"] = profile.token_secret
    spec: dict[str, Any] = {
        "rayVersion": profile.ray_version,
        "authOptions": auth,
        "headGroupSpec": _make_head(profile, name),
        "workerGroupSpecs": [_make_group(profile, name, group) for group in profile.workers],
    }
    if profile.autoscales:
        spec["enableInTreeAutoscaling"] = True
        spec["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": profile.idle_seconds}
    return spec


def _make_head(profile: KubeRayProfile, name: str) -> dict[str, Any]:
    head: Head = profile.head
    # Where the head offers no CPU, no trial is placed on it; a job's own process needs none.
    params = {"dashboard-host": "0.0.0.0"} | ({} if head.trials else {"num-cpus": "0"}) | _make_port_params(profile)
    template = _make_template(profile, name, head, {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)})
    container = template["spec"]["containers"][0]
    container["name"] = "ray-head"
    container["ports"] = [{"name": port, "containerPort": number} for port, number in HEAD_PORTS.items()]
    return {"rayStartParams": params, "template": template}


def _make_group(profile: KubeRayProfile, name: str, group: WorkerGroup) -> dict[str, Any]:
    template = _make_template(profile, name, group, {})
    container = template["spec"]["containers"][0]
    container["name"] = "ray-worker"
    if group.gpus:
        for amounts in container["resources"].values():
            amounts[group.gpu_resource] = group.gpus
    return {
        "groupName": group.name,
        "replicas": group.replicas,
        "minReplicas": group.fewest,
        "maxReplicas": group.most,
        "rayStartParams": _make_port_params(profile),
        "template": template,
    }


def _make_port_params(profile: KubeRayProfile) -> dict[str, str]:
    low, high = profile.worker_ports
    return {"min-worker-port": str(low), "max-worker-port": str(high)}


def _make_template(profile: KubeRayProfile, name: str, pod: Pod, env: Mapping[str, str]) -> dict[str, Any]:
    amounts = {"cpu": pod.cpus, "memory": pod.memory}
    low, high = profile.worker_ports
    variables = {"DECRED_WORKER_PORTS": f"{low}-{high}", "RAY_USAGE_STATS_ENABLED": "0", **env}
    container: dict[str, Any] = {
        "image": profile.image,
        "env": [{"name": key, "value": value} for key, value in variables.items()] + _make_passed(profile),
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "volumeMounts": [
            {"name": SHARED_VOLUME, "mountPath": profile.volume.mount},
            {"name": MEMORY_VOLUME, "mountPath": "/dev/shm"},
        ],
    }
    if profile.env_secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in profile.env_secrets]
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": [
            {"name": SHARED_VOLUME, "persistentVolumeClaim": {"claimName": profile.volume.claim}},
            {"name": MEMORY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": profile.shared_memory}},
        ],
    }
    return {"metadata": {"labels": _make_labels(name)}, "spec": spec | _make_placement(profile, pod)}


def _make_passed(profile: KubeRayProfile) -> list[dict[str, Any]]:
    """The variables of `pass_env`, of which the Secret has the values."""
    secret = profile.pass_env_secret
    if secret is None:
        return []
    sources = {name: {"secretKeyRef": {"name": secret, "key": name}} for name in profile.pass_env}
    return [{"name": name, "valueFrom": source} for name, source in sources.items()]


def _make_placement(profile: KubeRayProfile, pod: Pod) -> dict[str, Any]:
    """As whom and where a pod runs; without the keys that the profile leaves open."""
    user = profile.user
    optional = {
        "serviceAccountName": profile.service_account,
        "priorityClassName": profile.priority_class,
        "imagePullSecrets": [{"name": secret} for secret in profile.image_pull_secrets],
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in pod.tolerations],
        # With fsGroup the volume's files belong to the group, whoever made them; large volumes are gone through once.
        "securityContext": user
        and {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "fsGroupChangePolicy": "OnRootMismatch"},
    }
    return {key: value for key, value in optional.items() if value}


def _make_deletion_rule(rule: DeletionRule) -> dict[str, Any]:
    return {"policy": rule.policy, "condition": {"jobStatus": rule.status, "ttlSeconds": rule.ttl_seconds}}
