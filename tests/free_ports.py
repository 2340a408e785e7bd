"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

# Below the ports that Linux assigns by itself (from 32768 on) and above those of Ray's workers (to 19999), so that no
# other process takes a port between its choice and the start of its server.
RANGE = (20000, 32000)


def choose_port() -> int:
    """A port of 127.0.0.1 that is free, and that no process gets unless it asks for this number."""
    generator = random.SystemRandom()
    while True:
        port = generator.randrange(*RANGE)
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
