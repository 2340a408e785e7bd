"""The schemas of KubeRay's CRDs, closed to unknown fields, and a profile to start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.kuberay.profile import KubeRayProfile

SCHEMAS = Path(__file__).parents[4] / "shared" / "kuberay"
FILES = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}
Check = Callable[[dict[str, Any]], list[str]]


def close(schema: Any) -> Any:
    """The schema with unknown fields refused, as the API server's strict validation refuses them.

    Open remain the objects that the CRD leaves open: those with x-kubernetes-preserve-unknown-fields, and maps.
    """
    if isinstance(schema, list):
        return [close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(part) for key, part in schema.items()}
    if isinstance(closed.get("properties"), dict) and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    """The closed schema of each kind."""
    if not all((SCHEMAS / file).exists() for file in FILES.values()):
        pytest.skip("NOT TESTED: KubeRay's schemas are not in ../shared/kuberay")
    found = {}
    for kind, file in FILES.items():
        crd = yaml.load((SCHEMAS / file).read_bytes(), yaml.CSafeLoader)
        (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
        found[kind] = close(version["schema"]["openAPIV3Schema"])
    return found


@pytest.fixture(scope="session")
def check_schema(schemas: dict[str, Any]) -> Check:
    """What the CRD of a manifest refuses in it, a line for each fault."""
    checks = {kind: _make_check(schema) for kind, schema in schemas.items()}

    def check(manifest: dict[str, Any]) -> list[str]:
        assert manifest["apiVersion"] == "ray.io/v1"
        return checks[manifest["kind"]](manifest)

    return check


@pytest.fixture(scope="session")
def check_pod(schemas: dict[str, Any]) -> Check:
    """What Kubernetes refuses in a pod's template, of which the CRD has a copy."""
    spec = schemas["RayCluster"]["properties"]["spec"]["properties"]
    return _make_check(spec["headGroupSpec"]["properties"]["template"])


def _make_check(schema: dict[str, Any]) -> Check:
    validator = jsonschema.Draft202012Validator(schema)
    return lambda value: [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


@pytest.fixture
def make_profile() -> Callable[..., KubeRayProfile]:
    """A profile with one group of workers; keywords replace its keys."""

    def make(**changes: Any) -> KubeRayProfile:
        values: dict[str, Any] = {
            "kind": "kuberay",
            "storage": "/shared/studies",
            "image": "decred-study:0.3.0",
            "volume": {"claim": "studies", "mount": "/shared"},
            "workers": [{"name": "gpu", "cpus": 16, "memory": "128Gi", "gpus": 4, "replicas": 2}],
        }
        return KubeRayProfile.model_validate(values | changes)

    return make
