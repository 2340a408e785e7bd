"""The file of `ray up` against Ray's own schema and its own checks."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# The checks that `ray up` makes before it reaches any machine; they are private, and used in tests alone.
from ray.autoscaler._private.local.config import bootstrap_local
from ray.autoscaler._private.util import hash_runtime_conf, prepare_config, validate_config

from cluster.errors import ClusterError
from cluster.vms.profile import VmsProfile
from cluster.vms.ray_up import make_ray_up

Make = Callable[..., VmsProfile]
AWS: dict[str, Any] = {"type": "aws", "region": "eu-central-1", "worker_instance": "g6.12xlarge", "max_workers": 4}
AWS_FULL = AWS | {
    "zones": ["eu-central-1a", "eu-central-1b"],
    "spot": False,
    "ami": "ami-1",
    "key_name": "me",
    "instance_profile": "arn:aws:iam::1:instance-profile/ray",
    "min_workers": 2,
}
FULL = {"provider": AWS_FULL, "ssh_key": "~/.ssh/id", "head_trials": True}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("local", {}),
    ("local", {"ssh_key": "~/.ssh/id"}),
    ("aws", {}),
    ("aws", FULL),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def check_schema(config: dict[str, Any]) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)


def check_as_ray_does(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of a file before it reaches any machine; the file's own copy is left as it is."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return bootstrap_local(prepared) if config["provider"]["type"] == "local" else prepared


@pytest.mark.parametrize(("provider", "changes"), CASES)
def test_the_file_passes_rays_schema_and_checks(provider: str, changes: dict[str, Any], make_profile: Make) -> None:
    config = make_ray_up(make_profile(provider, **changes), "speech")
    check_schema(config)
    prepared = check_as_ray_does(config)
    assert prepared["cluster_name"] == "speech"
    # The hash of all files that are copied, so that these have to be there.
    hash_runtime_conf(prepared["file_mounts"], prepared["cluster_synced_files"], [])


def test_the_schema_refuses_a_key_that_it_does_not_know(make_profile: Make) -> None:
    config = make_ray_up(make_profile("aws"), "speech") | {"setup_command": []}
    with pytest.raises(jsonschema.ValidationError, match="'setup_command' was unexpected"):
        check_schema(config)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    workers=st.integers(0, 20),
    fewest=st.integers(0, 20),
    most=st.integers(1, 20),
    spot=st.booleans(),
    trials=st.booleans(),
)
def test_whatever_the_numbers_the_file_passes(
    workers: int, fewest: int, most: int, spot: bool, trials: bool, make_profile: Make
) -> None:
    addresses = [f"10.0.1.{number}" for number in range(workers)]
    local = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": addresses}
    aws = AWS | {"min_workers": min(fewest, most), "max_workers": most, "spot": spot}
    for provider in (local, aws):
        profile = make_profile(provider["type"], provider=provider, head_trials=trials or not workers)
        check_as_ray_does(make_ray_up(profile, "speech"))


def test_all_machines_that_are_named_become_workers(make_profile: Make) -> None:
    prepared = check_as_ray_does(make_ray_up(make_profile("local"), "speech"))
    (machine,) = prepared["available_node_types"].values()
    assert (machine["min_workers"], machine["max_workers"]) == (2, 2)


def test_workers_are_spot_instances_and_the_head_never_is(make_profile: Make) -> None:
    types = make_ray_up(make_profile("aws"), "speech")["available_node_types"]
    assert types["worker"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]


def test_the_autoscaler_counts_no_cpu_of_a_head_without_trials(make_profile: Make) -> None:
    types = make_ray_up(make_profile("aws"), "speech")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    types = make_ray_up(make_profile("aws", head_trials=True), "speech")["available_node_types"]
    assert types["head"]["resources"] == {}


def test_every_machine_gets_the_token(make_profile: Make) -> None:
    profile = make_profile("aws")
    assert make_ray_up(profile, "speech")["file_mounts"]["~/.ray/auth_token"] == profile.token_file


def test_skypilots_machines_have_another_file(make_profile: Make) -> None:
    with pytest.raises(ClusterError, match=r"the provider of 'speech' is skypilot.*`ray up` takes local or aws"):
        make_ray_up(make_profile("skypilot"), "speech")
