"""The pods of the MLflow server's manifest against the schema of pods that KubeRay's CRD holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFEST = Path(__file__).parents[3] / "cluster" / "images" / "mlflow-kubernetes.yaml"
Check = Callable[[dict[str, Any]], list[str]]


def templates() -> dict[str, Any]:
    parts = list(yaml.safe_load_all(MANIFEST.read_text()))
    return {part["metadata"]["name"]: part["spec"]["template"] for part in parts if part["kind"] == "Deployment"}


@pytest.mark.parametrize("name", ["mlflow", "mlflow-database", "mlflow-artifacts"])
def test_pods_have_no_field_that_kubernetes_does_not_know(name: str, check_pod: Check) -> None:
    assert check_pod(templates()[name]) == []


def test_an_unknown_field_of_a_pod_is_found(check_pod: Check) -> None:
    template = templates()["mlflow"]
    template["spec"]["containers"][0]["args"] = "mlflow server"
    template["spec"]["replica"] = 1
    faults = check_pod(template)
    assert len(faults) == 2
    assert any("'mlflow server' is not of type 'array'" in fault for fault in faults)
    assert any("'replica' was unexpected" in fault for fault in faults)
