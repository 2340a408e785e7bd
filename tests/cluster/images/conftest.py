"""Dockerfiles are built here without Docker: their instructions run on a copy of this machine's root.

The copy is an overlay in a mount namespace of its own: it starts as this machine is, nothing that happens in it reaches
the machine, and it is thrown away. So the base is this machine and not the image that FROM names.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "cluster" / "images"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continuation lines joined as Docker joins them."""

    name: str
    value: str


def parse_dockerfile(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile in their order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    words = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, value) for name, value in words]


class Overlay:
    """A root that starts as this machine's and is thrown away; commands run in it by chroot."""

    def __init__(self, folder: Path) -> None:
        """Nothing is mounted yet; `folder` holds what changes."""
        self.folder = folder
        self.variables = {"PATH": SYSTEM_PATH}
        self.user, self.directory = "root", "/"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the copy, as its current user, to its end."""
        return subprocess.run(self._enter(command), capture_output=True, text=True, check=False)

    def start(self, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a shell command in the copy, in a process group of its own."""
        with log.open("wb") as output:
            return subprocess.Popen(self._enter(command), stdout=output, stderr=output, start_new_session=True)

    def _enter(self, command: str) -> list[str]:
        # What is changed stays in `upper`, so that each command may mount a fresh copy.
        folder = shlex.quote(str(self.folder))
        variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.variables.items())
        inner = f"mkdir -p {self.directory} && cd {self.directory} && {command}"
        become = f"setpriv --reuid={self.user} --regid={self.user} --clear-groups " if self.user != "root" else ""
        shell = f"env -i HOME=/home/{self.user} {variables} /bin/sh -ec {shlex.quote(inner)}"
        script = (
            f"mount -t overlay overlay -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work {folder}/root\n"
            f"for part in proc dev sys; do mount --rbind /$part {folder}/root/$part; done\n"
            f"exec chroot {folder}/root {become}{shell}\n"
        )
        return ["unshare", "--mount", "sh", "-ec", script]

    def build(self, instructions: list[Instruction], context: Path) -> None:
        """Follow the instructions, as Docker would; an AssertionError with the output where one fails."""
        for instruction in instructions:
            name, value = instruction.name, instruction.value
            match name:
                case "RUN":
                    done = self.run(value)
                    assert done.returncode == 0, f"RUN {value}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
                case "ENV":
                    for pair in shlex.split(value):
                        key, _, content = pair.partition("=")
                        self.variables[key] = content.replace("$PATH", self.variables["PATH"])
                case "COPY":
                    self.copy(shlex.split(value), context)
                case "USER":
                    self.user = value
                case "WORKDIR":
                    self.directory = value
                case "ARG" | "FROM" | "EXPOSE" | "CMD" | "ENTRYPOINT":
                    pass
                case _:
                    raise AssertionError(f"{name} is not followed here")

    def copy(self, words: list[str], context: Path) -> None:
        """COPY: files into a folder, or one folder to a name."""
        *sources, target = words
        place = self.folder / "upper" / self.directory.strip("/") / target
        for source in sources:
            if (context / source).is_dir():
                shutil.copytree(
                    context / source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
                )
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(context / source, place)


def list_copied(instructions: list[Instruction]) -> list[str]:
    """What the instructions copy from the builder's context."""
    return [source for part in instructions if part.name == "COPY" for source in shlex.split(part.value)[:-1]]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Overlay]:
    """A copy of this machine's root; its changes are removed after the test."""
    folder = tmp_path / "overlay"
    folder.mkdir()
    copy = Overlay(folder)
    if os.geteuid() != 0 or copy.run("true").returncode:
        pytest.skip("NOT TESTED: the images, because no overlay can be mounted here")
    # The base that FROM names has Python with its venv module; Debian keeps the two apart.
    prepared = copy.run("apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv --help")
    if prepared.returncode:
        shutil.rmtree(folder)
        pytest.skip("NOT TESTED: the images, because Debian's packages cannot be installed here")
    yield copy
    shutil.rmtree(folder)


@pytest.fixture(name="parse_dockerfile")
def _parse_dockerfile() -> Callable[[str], list[Instruction]]:
    """The instructions of one of the project's Dockerfiles."""
    return lambda name: parse_dockerfile((IMAGES / name).read_text())


@pytest.fixture(name="list_copied")
def _list_copied() -> Callable[[str], list[str]]:
    """What one of the project's Dockerfiles copies from the builder's context."""
    return lambda name: list_copied(parse_dockerfile((IMAGES / name).read_text()))
