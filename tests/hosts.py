"""Hosts on one machine: Linux namespaces, each with an address, a host name, processes and a disk of its own.

They are joined by a bridge in a namespace of its own, so nothing changes in the network of the machine itself. All
processes of a host end with its first one. What lies outside /var/tmp and /dev/shm is shared by all hosts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMESPACES = ("--net", "--mount", "--uts", "--pid", "--ipc")
NETWORK = "10.77.0"
PRIVATE = Path("/var/tmp")  # a disk of each host's own
# The first process of a host: it collects the children of those that ended, as Ray expects of a system.
FIRST_PROCESS = """
import os, sys, time
print("up", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.1)
"""


@dataclass
class Host:
    """A host that is up; `process` is its first one, as this machine sees it."""

    name: str
    address: str
    process: int
    switch: int

    namespaces: tuple[str, ...] = NAMESPACES

    @property
    def command(self) -> list[str]:
        """The words before those of a command that is run on it."""
        return ["nsenter", f"--target={self.process}", *self.namespaces, "--"]

    def run(
        self,
        *words: str,
        env: dict[str, str] | None = None,
        seconds: float = 120.0,
        check: bool = True,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end."""
        done = subprocess.run(
            [*self.command, *words], env=env, capture_output=True, text=True, timeout=seconds, check=False, cwd=cwd
        )
        assert not check or done.returncode == 0, f"{words} on {self.name}: {done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str, env: dict[str, str] | None = None, output: Path) -> subprocess.Popen[bytes]:
        """Start a command on the host, with its output in a file."""
        with output.open("wb") as stream:
            return subprocess.Popen(
                [*self.command, *words], env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )

    def set_link(self, state: str) -> None:
        """`down` cuts the host's cable, `up` puts it back."""
        _run("nsenter", f"--target={self.switch}", "--net", "ip", "link", "set", self.name, state)

    def hide(self, folder: Path) -> None:
        """Put an empty file system over a folder, as on a host where a mount is missing."""
        self.run("mount", "-t", "tmpfs", "none", str(folder))


@contextlib.contextmanager
def make_hosts(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts that reach each other, for the time of the block; a skip where namespaces cannot be made.

    A host called `laptop` sees the processes of this machine, so that it can enter the others as over ssh.
    """
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(_first_process("switch"))
        inside = ("nsenter", f"--target={switch}", "--net", "ip")
        _run(*inside, "link", "add", "bridge", "type", "bridge")
        _run(*inside, "link", "set", "bridge", "up")
        hosts = {}
        for number, name in enumerate(names, start=1):
            process = stack.enter_context(_first_process(name))
            namespaces = tuple(kind for kind in NAMESPACES if name != "laptop" or kind not in ("--pid", "--mount"))
            host = Host(name, f"{NETWORK}.{number}", process, switch, namespaces)
            _run(*inside, "link", "add", name, "type", "veth", "peer", "name", "net0", "netns", str(process))
            _run(*inside, "link", "set", name, "master", "bridge", "up")
            for words in (("link", "set", "lo", "up"), ("link", "set", "net0", "up")):
                host.run("ip", *words)
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "net0")
            hosts[name] = host
        yield hosts


@contextlib.contextmanager
def _first_process(name: str) -> Iterator[int]:
    mounts = f"mount -t tmpfs none {PRIVATE} && mount -t tmpfs none /dev/shm && hostname {name}"
    program = f'{mounts} && exec "$0" -c "$1"'
    unshare = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child=SIGKILL"]
    parent = subprocess.Popen(
        [*unshare, "sh", "-c", program, sys.executable, FIRST_PROCESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    try:
        if parent.stdout.readline() != "up\n":
            parent.wait(10)
            pytest.skip(f"NOT TESTED: namespaces cannot be made here ({parent.stderr.read().strip()})")
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        yield int(children[0])
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        parent.stderr.close()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def user_environment(host: Host, home: Path) -> dict[str, str]:
    """The environment of a user whose home folder is `home`: nothing of Ray's, this project on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DECRED_"))}
    root = Path(__file__).parents[1]
    return kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "PYTHONPATH": str(root)}
