"""Profiles of kind `kuberay`: a Ray cluster that the KubeRay operator starts on Kubernetes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cluster.kuberay.rules import (
    check_mount,
    check_replicas,
    check_shared_memory,
    check_storage,
    check_variables,
    check_worker_ports,
)
from cluster.profiles.profile import AbsolutePath, Profile, Settings

# An amount as Kubernetes writes it: 500m, 16Gi. DNS names as it accepts them for what it calls a label, and otherwise.
Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?([kMGTP]|[KMGTP]i)?$")]
Label = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
# The operator appends `-worker-RANDOM` to a group's name and cuts what is too long for a pod's name.
GroupName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1024, le=65535)]


class Toleration(Settings):
    """A taint of nodes that pods tolerate."""

    key: str | None = Field(None, description="the taint's key; null = any, with operator Exists")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Exists, or Equal to `value`")
    value: str | None = Field(None, description="the taint's value where operator is Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="the taint's effect; null = any"
    )


class Pod(Settings):
    """What a pod of Ray gets, and on which nodes it runs."""

    cpus: int = Field(ge=1, description="CPUs of a pod, its request and its limit")
    memory: Quantity = Field(description="memory of a pod with its /dev/shm, its request and its limit: 32Gi")
    node_selector: dict[str, str] = Field({}, description="labels of the nodes on which the pods may run")
    tolerations: tuple[Toleration, ...] = Field((), description="taints of nodes that the pods tolerate")


class Head(Pod):
    """The pod of Ray's head, in which the study's own process runs."""

    cpus: int = Field(4, ge=1, description="CPUs of the head's pod")
    memory: Quantity = Field("16Gi", description="memory of the head's pod with its /dev/shm")
    trials: bool = Field(
        False, description="whether trials run on the head too; where one exhausts its memory, the whole cluster ends"
    )


class WorkerGroup(Pod):
    """Pods that are alike: a group with GPUs, a group of CPUs."""

    name: GroupName = Field(description="the group's name, in the names of its pods")
    gpus: int = Field(0, ge=0, description="GPUs of a pod")
    gpu_resource: str = Field("nvidia.com/gpu", description="what Kubernetes calls these GPUs")
    replicas: int = Field(1, ge=0, description="pods that start with the cluster")
    min_replicas: int | None = Field(None, ge=0, description="fewest pods; null = replicas")
    max_replicas: int | None = Field(
        None, ge=1, description="most pods; null = replicas. Fewest below most: Ray's autoscaler starts and ends pods"
    )

    @property
    def fewest(self) -> int:
        """Pods that stay however little there is to do."""
        return self.replicas if self.min_replicas is None else self.min_replicas

    @property
    def most(self) -> int:
        """Pods that there are however much there is to do."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_replicas(self.name, self.fewest, self.replicas, self.most)
        return self


class Volume(Settings):
    """The volume that all pods share: studies, their ledgers, checkpoints and corpora lie on it."""

    claim: ObjectName = Field(description="name of a PersistentVolumeClaim with access mode ReadWriteMany")
    mount: AbsolutePath = Field(description="where all pods mount it; the profile's storage lies below")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_mount(self.mount)
        return self


class DeletionRule(Settings):
    """What goes away some time after a RayJob has ended."""

    status: Literal["SUCCEEDED", "FAILED"] = Field(description="how the job ended")
    policy: Literal["DeleteWorkers", "DeleteCluster", "DeleteSelf", "DeleteNone"] = Field(
        description="what is deleted: the workers' pods, the cluster, the RayJob with all of it, or nothing"
    )
    ttl_seconds: int = Field(0, ge=0, description="seconds after the job's end")


class KubeRayProfile(Profile):
    """A Ray cluster that the KubeRay operator starts on Kubernetes."""

    kind: Literal["kuberay"]
    image: str = Field(min_length=1, description="image of all pods, of cluster/images/Dockerfile, in your registry")
    image_pull_secrets: tuple[ObjectName, ...] = Field((), description="Secrets with the registry's credentials")
    namespace: Label = Field("default", description="namespace of all objects")
    context: str | None = Field(None, description="kubectl's context; null = its current one")
    service_account: ObjectName | None = Field(None, description="the pods' ServiceAccount; null = the namespace's")
    user: int | None = Field(
        10001, ge=1, description="user and group id of the pods' processes, as in the image; null = the image's own"
    )
    head: Head = Field(Head(), description="the pod of Ray's head, in which the study's own process runs")
    workers: tuple[WorkerGroup, ...] = Field(min_length=1, description="groups of pods, in which trials run")
    volume: Volume = Field(description="the volume that all pods share")
    shared_memory: Quantity = Field(
        "8Gi", description="size of /dev/shm in each pod, part of its memory; PyTorch and Ray pass data through it"
    )
    worker_ports: tuple[Port, Port] = Field(
        (10002, 19999), description="lowest and highest port of Ray's workers and of a training's processes"
    )
    ray_version: str = Field(
        "2.60.0",
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$",
        description="Ray's version in the image, which the operator asks for",
    )
    token_secret: ObjectName | None = Field(
        None,
        description="Secret whose key auth_token is the token; null = KubeRay makes one, named as the cluster",
    )
    env_secrets: tuple[ObjectName, ...] = Field(
        (), description="Secrets whose keys become environment variables of all pods, such as MLFLOW_TRACKING_PASSWORD"
    )
    pass_env_secret: ObjectName | None = Field(
        None,
        description="Secret that has the variables of `pass_env` as its keys: all pods get them from it, and no value "
        "is in a manifest or in Ray's table of jobs; null = a study that is submitted takes their values along, which "
        "all who reach the dashboard may read",
    )
    queue: str | None = Field(None, description="Kueue's LocalQueue that admits the cluster; null = without Kueue")
    priority_class: ObjectName | None = Field(None, description="PriorityClass of the pods; null = the default")
    idle_seconds: int = Field(300, ge=1, description="seconds without work after which the autoscaler ends a pod")
    submission_mode: Literal["HTTPMode", "K8sJobMode", "SidecarMode"] = Field(
        "HTTPMode", description="how a RayJob's command is started: by the operator, by a pod, or beside the head"
    )
    backoff_limit: int = Field(
        3, ge=0, description="times that a failed RayJob starts again on a new cluster, where the study continues"
    )
    start_seconds: int | None = Field(
        None, ge=1, description="seconds in which a RayJob's cluster has to be up, else the job fails; null = no limit"
    )
    ttl_seconds: int | None = Field(
        None, ge=0, description="seconds that a RayJob's cluster stays after the end; null = it goes at once"
    )
    deletion: tuple[DeletionRule, ...] = Field(
        (), description="rules for what goes when, instead of ttl_seconds; not with Kueue"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_storage(self.storage, self.volume.mount)
        check_worker_ports(*self.worker_ports)
        for pod in (self.head, *self.workers):
            check_shared_memory(self.shared_memory, pod.memory)
        check_variables(self.pass_env, self.env)
        names = [group.name for group in self.workers]
        if len(set(names)) < len(names):
            raise ValueError(f"the groups of workers are named {', '.join(names)}; give each a name of its own")
        if self.deletion and self.ttl_seconds is not None:
            raise ValueError("both deletion and ttl_seconds are set; KubeRay takes one of them")
        return self

    @property
    def passed(self) -> tuple[str, ...]:
        """The variables that go with a study: none where the pods have them from a Secret."""
        return self.pass_env if self.pass_env_secret is None else ()

    @property
    def autoscales(self) -> bool:
        """Whether the number of pods follows what there is to do."""
        return any(group.fewest < group.most for group in self.workers)
