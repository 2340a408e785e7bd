"""A cluster that is reached over real ssh: an sshd of the test's own on loopback, for machines and for a tunnel."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from free_ports import choose_port
from ray_head import BIN, wait_until

from cluster.machines import agent
from cluster.machines.profile import HEAD_PORTS, NODE_PORTS, PORTS

SSHD = "/usr/sbin/sshd"
CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
# As root, sshd needs an empty folder /run/sshd; it gets one that only it sees.
OF_ROOT = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"', "sh"]
NAME = "overssh"


@dataclass(frozen=True)
class Server:
    """A running sshd, the user's folder, and the options with which `ssh` reaches it, the host at the end."""

    folder: Path
    options: str
    log: Path

    def command(self, *words: str) -> list[str]:
        """The lines that `decred-study` prints; its exit code has to be 0."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(
            [BIN / "decred-study", *words],
            cwd=self.folder,
            env=env | {"HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{self.log.read_text()}"
        return done.stdout.splitlines()

    def write_profile(self, name: str, **values: object) -> None:
        (self.folder / "clusters").mkdir(exist_ok=True)
        (self.folder / "clusters" / f"{name}.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def server() -> Iterator[Server]:
    if not (Path(SSHD).exists() and shutil.which("ssh") and shutil.which("ssh-keygen")):
        pytest.skip("NOT TESTED: sshd is not installed; install Debian's package `openssh-server`")
    if not os.geteuid() and subprocess.run([*OF_ROOT, "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: namespaces cannot be made here")
    folder = Path(tempfile.mkdtemp(prefix="ssh"))  # Ray's sockets lie in it, so its path has to be short
    try:
        with start_sshd(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def start_sshd(folder: Path) -> Iterator[Server]:
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    port, log = choose_port(), folder / "sshd.log"
    (folder / "config").write_text(CONFIGURATION.format(port=port, folder=folder))
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    command = [*([] if os.geteuid() else OF_ROOT), SSHD, "-D", "-f", str(folder / "config"), "-E", str(log)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    options = f"-F none -p {port} -i {folder}/user_key -o BatchMode=yes -o UserKnownHostsFile={folder}/known_hosts"
    try:
        assert wait_until(lambda: process.poll() is not None or answers(port), 30), "sshd did not come up"
        assert process.poll() is None, log.read_text()
        yield Server(folder, f"{options} 127.0.0.1", log)
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def choose_ports() -> int:
    """The first port of a block in which the fixed ones are free."""
    used = (*HEAD_PORTS.values(), *NODE_PORTS.values())
    while True:
        first = random.SystemRandom().randrange(20_000, 32_000, PORTS)
        if not any(answers(first + port) for port in used):
            return first


@pytest.mark.slow
def test_a_machine_is_brought_up_looked_at_tunnelled_to_and_taken_down_over_ssh(server: Server) -> None:
    head = {"address": "127.0.0.1", "run": f"ssh {server.options}", "cpus": 1}
    storage, first = str(server.folder / "studies"), choose_ports()
    server.write_profile(
        NAME,
        kind="machines",
        storage=storage,
        head=head,
        python=str(BIN / "python"),
        temp=str(server.folder),
        ports=first,
    )
    token = server.folder / ".config" / "decred-study" / "tokens" / NAME
    server.write_profile(
        "tunnelled",
        kind="ray",
        storage=storage,
        dashboard=f"http://127.0.0.1:{first + 1}",
        tunnel=f"ssh -N -L {{port}}:{{dashboard}} {server.options}",
        token_file=str(token),
    )
    try:
        started, dashboard, submit = server.command("cluster", "up", NAME)
        assert started == "127.0.0.1: started"
        assert dashboard == f"dashboard: http://127.0.0.1:{first + 1}, token in {token}"
        assert submit == f"submit a study with: decred-study submit STUDY.yaml --on {NAME}"
        assert "Accepted publickey for" in server.log.read_text()
        machine, dashboard = server.command("cluster", "status", NAME)
        assert machine.startswith("127.0.0.1: running, ")
        assert dashboard == f"dashboard: http://127.0.0.1:{first + 1}"
        (tunnelled,) = server.command("cluster", "status", "tunnelled")
        url = tunnelled.removeprefix("dashboard: http://127.0.0.1:")
        assert url.isdigit(), tunnelled
        assert int(url) != first + 1, "it was reached without the tunnel"
    finally:
        (ended,) = server.command("cluster", "down", NAME)
    assert ended.startswith("127.0.0.1: ")
    assert not ended.startswith("127.0.0.1: 0 "), "nothing was ended"
    assert agent.find_processes(NAME, server.folder / f"decred-{NAME}") == []
