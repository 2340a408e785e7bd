"""A profile of each provider, with files that are there."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.vms.profile import VmsProfile

PROVIDERS: dict[str, dict[str, Any]] = {
    "local": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]},
    "aws": {"type": "aws", "region": "eu-central-1", "worker_instance": "g6.12xlarge", "max_workers": 4},
    "skypilot": {"type": "skypilot", "infra": "gcp/europe-west4", "accelerators": "L4:4", "nodes": 3},
}
Make = Callable[..., VmsProfile]


@pytest.fixture
def make_profile(tmp_path: Path) -> Make:
    """A profile with this provider; keywords replace its keys. The wheel is real and holds one empty module."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "auth_token").write_text("0" * 64)
    (here / "constraints.txt").write_text("decred-study==0.3.0\n")
    wheel = here / "decred_study-0.3.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "decred_study-0.3.0.dist-info"
        archive.writestr("decred_stand_in.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: decred-study\nVersion: 0.3.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")

    def make(provider: str, /, **changes: Any) -> VmsProfile:
        values: dict[str, Any] = {
            "kind": "vms",
            "storage": "/shared/studies",
            "provider": PROVIDERS[provider],
            "token_file": str(here / "auth_token"),
            "wheel": str(wheel),
            "constraints": str(here / "constraints.txt"),
        }
        return VmsProfile.model_validate(values | changes)

    return make
