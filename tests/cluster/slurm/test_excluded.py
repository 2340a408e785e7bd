"""Excluded nodes by their addresses: Slurm's names for them, with stand-ins for Slurm and the resolver."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.slurm.commands import submit
from cluster.slurm.excluded import name_excluded
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import make_script

# As `sinfo --Node` writes them: the name, the host name, the address, which often is the name too; once a partition.
NODES = """
echo "n1 n1 10.0.0.1"
echo "n2 host2 n2"
echo "n2 host2 n2"
echo "n3 n3.lab n3.lab"
"""
HOSTS = {"10.0.0.2": "10.0.0.2 host2.lab host2", "10.0.0.3": "10.0.0.3 n3.lab", "10.0.0.9": "10.0.0.9 n9.lab"}
RESOLVER = "case $2 in {cases} *) exit 2;; esac"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmProfile:
    """A profile whose Slurm and resolver are those above."""
    cases = " ".join(f"{address}) echo '{line}';;" for address, line in HOSTS.items())
    for name, answer in {"sinfo": NODES, "getent": RESOLVER.format(cases=cases), "sbatch": "cat >&2; exit 1"}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{answer}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return SlurmProfile(kind="slurm", storage=str(tmp_path), cpus_per_node=2, python="/venv/bin/python")


def exclude(profile: SlurmProfile, *entries: str) -> tuple[str, ...]:
    return name_excluded(profile.model_copy(update={"exclude": entries})).exclude


@pytest.mark.parametrize(("address", "name"), [("10.0.0.1", "n1"), ("10.0.0.2", "n2"), ("10.0.0.3", "n3")])
def test_an_address_becomes_the_name_of_its_node(address: str, name: str, profile: SlurmProfile) -> None:
    assert exclude(profile, address) == (name,)


def test_names_stay_and_a_node_that_is_given_twice_is_named_once(profile: SlurmProfile) -> None:
    assert exclude(profile, "n7", "10.0.0.2", "10.0.0.1", "n2") == ("n7", "n2", "n1")


@pytest.mark.parametrize("address", ["10.0.0.8", "10.0.0.9", "fe80::1"])
def test_an_address_of_no_node_is_one_line(address: str, profile: SlurmProfile) -> None:
    with pytest.raises(ClusterError, match=rf"^exclude has {address}, which Slurm knows as the address of no node; "):
        exclude(profile, "10.0.0.1", address)


def test_slurm_is_not_needed_where_there_are_only_names(
    profile: SlurmProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert exclude(profile, "n1") == ("n1",)


def test_without_slurm_an_address_is_one_line(
    profile: SlurmProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sinfo").write_text("#!/bin/bash\necho slurmctld is down >&2; exit 1\n")
    with pytest.raises(ClusterError, match=r"^sinfo on this machine refuses \(slurmctld is down\)$"):
        exclude(profile, "10.0.0.1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "bash").symlink_to("/bin/bash")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ClusterError, match=r"^there is no sinfo on this machine; set `login` to a command that reach"):
        exclude(profile, "10.0.0.1")


def test_sbatch_gets_the_name_of_an_excluded_address(profile: SlurmProfile) -> None:
    named = name_excluded(profile.model_copy(update={"exclude": ("10.0.0.2",)}))
    with pytest.raises(ClusterError, match="#SBATCH --exclude=n2 "):
        submit(named, make_script(named, "demo", None))
