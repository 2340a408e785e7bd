"""A profile's `exclude` as Slurm takes it, which knows nodes by their names alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from cluster.errors import ClusterError
from cluster.slurm.commands import call_slurm
from cluster.slurm.profile import SlurmProfile

_ADDRESS = "address"  # begins the lines that are not sinfo's


def name_excluded(profile: SlurmProfile) -> SlurmProfile:
    """The profile with the names of excluded nodes in the place of their addresses, for which Slurm is asked.

    Slurm is not needed where there are only names. Raises a ClusterError for an address that no node has.
    """
    addresses = [entry for entry in profile.exclude if is_address(entry)]
    if not addresses:
        return profile
    names = _find_names(profile, addresses)
    for address in addresses:
        if address not in names:
            raise ClusterError(
                f"exclude has {address}, which Slurm knows as the address of no node; give the node's name, as "
                "`sinfo --Node` shows it"
            )
    named = dict.fromkeys(names.get(entry, entry) for entry in profile.exclude)
    return profile.model_copy(update={"exclude": tuple(named)})


def is_address(entry: str) -> bool:
    """Whether an entry is an IP address; otherwise it is a name."""
    try:
        ipaddress.ip_address(entry)
    except ValueError:
        return False
    return True


def _find_names(profile: SlurmProfile, addresses: Sequence[str]) -> Mapping[str, str]:
    """Slurm's name of the node with each address, for those that there are.

    Slurm often has a node's name as its address, too: then the names that the login node's resolver gives for the
    address are compared with it.
    """
    lookups = [
        f"getent hosts {address} </dev/null | while read -r _ names; do echo {_ADDRESS} {address} $names; done"
        for address in addresses
    ]
    program = "\n".join(['sinfo --Node --noheader --format="%N %n %o" </dev/null || exit', *lookups, "true", ""])
    known: dict[str, str] = {}  # a node's address or host name -> its name
    resolved: dict[str, list[str]] = {address: [address] for address in addresses}
    for line in call_slurm(profile, "sinfo", program).splitlines():
        words = line.split()
        if words[:1] == [_ADDRESS] and len(words) > 1 and words[1] in resolved:
            resolved[words[1]] += [short for name in words[2:] for short in (name, name.partition(".")[0])]
        elif len(words) == 3:
            known |= dict.fromkeys((words[2], words[1], words[0]), words[0])
    return {
        address: known[match]
        for address, names in resolved.items()
        if (match := next((name for name in names if name in known), None)) is not None
    }
