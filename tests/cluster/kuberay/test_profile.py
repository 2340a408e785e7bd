"""Profiles of kind `kuberay`: what they refuse, and that all that they accept becomes manifests that validate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.kuberay.manifests import make_ray_cluster, make_ray_job
from cluster.kuberay.profile import KubeRayProfile

Make = Callable[..., KubeRayProfile]
Check = Callable[[dict[str, Any]], list[str]]
GPU = {"name": "gpu", "cpus": 16, "memory": "128Gi", "gpus": 4}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"storage": "/data/studies"}, "storage is '/data/studies', but must lie below '/shared'"),
    ({"storage": "/shared/../data"}, r"storage is '/shared/\.\./data', but must lie below '/shared'"),
    ({"storage": "/shared-2/studies"}, "but must lie below '/shared'"),
    ({"volume": {"claim": "studies", "mount": "/dev"}}, "mount is '/dev', which would hide folders of the image"),
    ({"workers": [GPU | {"replicas": 5, "max_replicas": 4}]}, "group 'gpu' has 5 replicas, but must have from 5"),
    ({"workers": [GPU | {"min_replicas": 2}]}, r"has 1 replicas, but must have from 2 \(min_replicas\)"),
    ({"workers": [GPU, GPU]}, "the groups of workers are named gpu, gpu; give each a name of its own"),
    ({"workers": []}, "at least 1 item"),
    ({"workers": [GPU | {"name": "GPU"}]}, "should match pattern"),
    ({"shared_memory": "16Gi"}, "shared_memory is 16Gi, but must be less than the memory of each pod"),
    ({"shared_memory": "lots"}, "should match pattern"),
    ({"worker_ports": [20000, 20050]}, "worker_ports are 20000 to 20050, but must be at least 100 ports"),
    ({"worker_ports": [20999, 20000]}, "worker_ports are 20999 to 20000, but must be at least 100 ports"),
    ({"worker_ports": [8000, 9000]}, "but other processes of Ray have 8000, 8080, 8265"),
    ({"deletion": [{"status": "FAILED", "policy": "DeleteSelf"}], "ttl_seconds": 5}, "both deletion and ttl_seconds"),
    ({"pass_env": ["A B"]}, "pass_env has 'A B', but a variable's name has letters"),
    ({"pass_env": ["A"], "env": {"A": "1"}}, "both pass_env and env have A; leave it out of one"),
    ({"imagee": "x"}, "Extra inputs are not permitted"),
]

names = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
gibibytes = st.integers(17, 2000).map("{}Gi".format)
tolerations = st.fixed_dictionaries(
    {}, optional={"key": names, "effect": st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])}
)


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Any]:
    fewest, replicas, most = sorted(draw(st.lists(st.integers(0, 50), min_size=3, max_size=3)))
    return {
        "name": draw(names),
        "cpus": draw(st.integers(1, 256)),
        "memory": draw(gibibytes),
        "gpus": draw(st.integers(0, 16)),
        "replicas": replicas,
        "min_replicas": fewest,
        "max_replicas": max(most, 1),
        "node_selector": draw(st.dictionaries(names, names, max_size=2)),
        "tolerations": draw(st.lists(tolerations, max_size=2)),
    }


profiles = st.fixed_dictionaries(
    {
        "kind": st.just("kuberay"),
        "storage": names.map("/shared/{}".format),
        "image": st.just("decred-study:0.3.0"),
        "volume": st.fixed_dictionaries({"claim": names, "mount": st.sampled_from(["/shared", "/shared/"])}),
        "workers": st.lists(groups(), min_size=1, max_size=4, unique_by=lambda group: group["name"]),
    },
    optional={
        "namespace": names,
        "service_account": names,
        "user": st.none() | st.integers(1, 2**31),
        "head": st.fixed_dictionaries({"cpus": st.integers(1, 64), "memory": gibibytes, "trials": st.booleans()}),
        "shared_memory": st.integers(1, 15).map("{}Gi".format),
        "worker_ports": st.integers(11000, 40000).map(lambda port: [port, port + 999]),
        "token_secret": names,
        "env_secrets": st.lists(names, max_size=2),
        "image_pull_secrets": st.lists(names, max_size=2),
        "priority_class": names,
        "idle_seconds": st.integers(1, 10**6),
        "submission_mode": st.sampled_from(["HTTPMode", "K8sJobMode", "SidecarMode"]),
        "backoff_limit": st.integers(0, 100),
        "start_seconds": st.integers(1, 10**6),
        "ttl_seconds": st.integers(0, 10**6),
        "env": st.dictionaries(names, st.text(max_size=5), max_size=3),
    },
)


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_a_profile_is_refused_with_the_reason(changes: dict[str, Any], words: str, make_profile: Make) -> None:
    with pytest.raises(ValidationError, match=words):
        make_profile(**changes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(values=profiles, name=names)
def test_whatever_a_profile_says_its_manifests_validate(values: dict[str, Any], name: str, check_schema: Check) -> None:
    profile = KubeRayProfile.model_validate(values)
    assert check_schema(make_ray_cluster(profile, name)) == []
    assert check_schema(make_ray_job(profile, name, "decred-study run study.yaml")) == []


def test_storage_may_be_the_mount_itself(make_profile: Make) -> None:
    assert make_profile(storage="/shared").storage == "/shared"


def test_replicas_alone_fix_the_size_of_a_group(make_profile: Make) -> None:
    (group,) = make_profile(workers=[GPU | {"replicas": 3}]).workers
    assert (group.fewest, group.most) == (3, 3)


def test_every_key_is_described_in_the_schema_for_editors() -> None:
    schema = KubeRayProfile.model_json_schema()
    for name, part in {"profile": schema, **schema["$defs"]}.items():
        missing = [key for key, value in part["properties"].items() if key != "kind" and "description" not in value]
        assert not missing, f"{name}: {missing}"
