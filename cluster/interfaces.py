"""The network interface with an address of this machine.

gloo listens at what the machine's host name resolves to, which may be nothing, or an interface that other machines do
not reach; Ray knows the address by which they do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

GLOO = "GLOO_SOCKET_IFNAME"


def find_interface(address: str) -> str | None:
    """The interface that has the IP address; None where there is none, as behind a container's port mapping."""
    import psutil  # a dependency of Ray, which adds it to the path when imported

    interfaces: Mapping[str, list[Any]] = psutil.net_if_addrs()
    for name, addresses in interfaces.items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            return name
    return None


def choose_gloo_interface(address: str) -> None:
    """Have gloo use the interface with this machine's address, unless the user has named another."""
    if GLOO not in os.environ and (name := find_interface(address)) is not None:
        os.environ[GLOO] = name
