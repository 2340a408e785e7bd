from __future__ import annotations

import contextlib
import sys
import urllib.request
from pathlib import Path

import pytest
from fake_dashboard import VERSION, serve

from cluster.errors import ClusterError
from cluster.tunnel import open_tunnel

# Forwards a port to another one, as `ssh -L` does.
FORWARD = """
import socket, sys, threading
def copy(one, other):
    while (data := one.recv(65536)):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    here = server.accept()[0]
    there = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for pair in ((here, there), (there, here)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""


def test_what_is_behind_a_tunnel_answers_for_the_time_of_the_block(tmp_path: Path) -> None:
    (tmp_path / "forward.py").write_text(FORWARD)
    with serve({"/api/version": VERSION}) as server:
        command = f"{sys.executable} {tmp_path / 'forward.py'} {{port}} {server.split(':')[1]}"
        with open_tunnel(command) as url, urllib.request.urlopen(f"{url}/api/version", timeout=10) as page:
            assert page.read().decode() == VERSION[1]
    lines = [read_command(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    assert not [line for line in lines if str(tmp_path / "forward.py") in line], "the command ended with the block"


def read_command(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_text()
    return ""


@pytest.mark.parametrize(
    ("command", "message", "seconds"),
    [
        (
            "sh -c 'echo no route to host; exit 1' {port}",
            r"does not come up \(no route to host\); try it by hand",
            30.0,
        ),
        ("no-such-command {port}", r"cannot be started \(No such file or directory\); correct it", 30.0),
        ("sleep 60 {port}", r"does not come up \(it said nothing\)|invalid time interval", 0.5),
    ],
)
def test_a_tunnel_that_does_not_come_up_is_one_line(command: str, message: str, seconds: float) -> None:
    with pytest.raises(ClusterError, match=message), open_tunnel(command, seconds=seconds):
        pytest.fail("the block was entered")
