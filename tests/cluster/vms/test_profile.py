"""Profiles of kind `vms`: what they refuse, and their schema for editors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.vms.profile import VmsProfile

Make = Callable[..., VmsProfile]
AWS = {"type": "aws", "region": "eu-central-1", "worker_instance": "g6.12xlarge", "max_workers": 4}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("local", {"provider": {"type": "local", "head_ip": "h"}}, "the head is the only machine.*set head_trials: true"),
    ("local", {"provider": {"type": "local", "head_ip": "a", "worker_ips": ["b", "a"]}}, "a is named twice"),
    ("skypilot", {"provider": {"type": "skypilot"}}, "the head is the only machine"),
    ("aws", {"ssh_key": "~/.ssh/id"}, "ssh_key and provider.key_name belong together"),
    ("aws", {"provider": AWS | {"key_name": "me"}}, "ssh_key and provider.key_name belong together"),
    ("aws", {"provider": AWS | {"min_workers": 5}}, "min_workers is 5, but must be at most max_workers, 4"),
    ("aws", {"provider": {"type": "gcp"}}, "does not match any of the expected tags: 'local', 'aws', 'skypilot'"),
    ("aws", {"worker_ports": [20000, 20098]}, "worker_ports are 20000 to 20098, but must be at least 100 ports"),
    ("aws", {"environment": "decred"}, "'decred' must start with / or ~/"),
    ("aws", {"environment": "~/a b"}, "'~/a b' must start with / or ~/ and have no space"),
    ("aws", {"environment": "~/a;reboot"}, "have no space and no character of the shell"),
    ("aws", {"files": {"data": "data"}}, "'data' must start with / or ~/"),
    ("aws", {"python": "python3.11; reboot"}, "should match pattern"),
    ("aws", {"wheel": "decred.zip"}, "should match pattern"),
    ("aws", {"wheels": "x"}, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("provider", "changes", "words"), REFUSED)
def test_a_profile_is_refused_with_the_reason(
    provider: str, changes: dict[str, Any], words: str, make_profile: Make
) -> None:
    with pytest.raises(ValidationError, match=words):
        make_profile(provider, **changes)


@pytest.mark.parametrize("provider", ["local", "skypilot"])
def test_a_single_machine_runs_trials_on_its_head(provider: str, make_profile: Make) -> None:
    alone = {"type": provider} | ({"head_ip": "10.0.0.1"} if provider == "local" else {})
    assert make_profile(provider, provider=alone, head_trials=True).head_trials


def test_every_key_is_described_in_the_schema_for_editors() -> None:
    schema = VmsProfile.model_json_schema()
    for name, part in {"profile": schema, **schema["$defs"]}.items():
        missing = [key for key, value in part["properties"].items() if "description" not in value]
        assert set(missing) <= {"kind", "type"}, f"{name}: {missing}"
