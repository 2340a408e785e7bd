"""The ports of this project's own servers: within those that a cluster's firewall opens between its machines.

A driver listens for its workers, and the first worker of a process group for the others. No process can ask Ray which
ports it was started with (`ray start --min-worker-port LOW --max-worker-port HIGH`), so whoever starts a cluster names
the same range in the environment of `ray start`, on every machine: DECRED_WORKER_PORTS=LOW-HIGH. Without it any free
port is taken.

gloo and NCCL have no such setting: once they have met, their connections use ports that the system chooses, from
net.ipv4.ip_local_port_range, which the firewall has to open as well.
"""

from __future__ import annotations

import errno
import os
import random
import re
import socket

from cluster.errors import ClusterError, format_error

WORKER_PORTS = "DECRED_WORKER_PORTS"
ANY = 0
LOWEST, HIGHEST = 1024, 65535  # as for Ray's own workers
_BACKLOG = 128  # connections that wait to be accepted: all workers of a group come at the same time


def read_worker_ports() -> range | None:
    """The ports that the environment names, or None where it names none; a ClusterError where it is no range."""
    given = os.environ.get(WORKER_PORTS, "").strip()
    if not given:
        return None
    match = re.fullmatch(r"(\d{1,5})\s*-\s*(\d{1,5})", given)
    low, high = (int(match[1]), int(match[2])) if match else (0, 0)
    if not LOWEST <= low <= high <= HIGHEST:
        raise ClusterError(
            f"{WORKER_PORTS} is {given!r}, but must be LOW-HIGH with {LOWEST} <= LOW <= HIGH <= {HIGHEST}; "
            "give the range of --min-worker-port and --max-worker-port, for example 10002-19999"
        )
    return range(low, high + 1)


def listen_on_worker_port(host: str) -> socket.socket:
    """A socket that listens at `host`, on a port of the range or, without one, on any that is free.

    Raises a ClusterError where none of the range is free, or where `host` is no address of this machine.
    """
    ports = read_worker_ports() or range(ANY, ANY + 1)
    # In random order, so that those who start at the same time do not try one port after the other together.
    for port in random.sample(ports, len(ports)):
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ClusterError(
                    f"{host} cannot be listened on ({format_error(error)}); it has to be an address of this machine, "
                    "which Ray takes from --node-ip-address"
                ) from None
    raise ClusterError(
        f"none of the ports {ports.start}-{ports.stop - 1} is free on {host} ({WORKER_PORTS}); end what holds them, or "
        "widen the range, and that of --min-worker-port and --max-worker-port with it"
    )


def _listen(host: str, port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # A port whose last connections were closed a moment ago is free; one on which somebody listens is not.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(_BACKLOG)
    except OSError:
        server.close()
        raise
    return server
