"""What is uploaded with a job: packages of a checkout or of an installation, and files beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError

# In bytes. The Jobs API refuses more with HTTP 413, although its client's warning names another limit.
UPLOAD_LIMIT = 100 * 1024**2
LARGEST = 5  # files that are named
_NEVER = ("__pycache__",)


@dataclass(frozen=True)
class Upload:
    """A folder that is uploaded: its files and bytes, and the largest of them with their sizes."""

    folder: Path
    files: int
    bytes: int
    largest: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {format_size(size)}" for name, size in self.largest)
        return f"{self.files} files, {format_size(self.bytes)} (largest: {listed})"


def pack(folder: Path, packages: Sequence[Path]) -> None:
    """Copy packages side by side into `folder`, the job's working directory.

    Of a git checkout those files go that git knows or does not ignore; of an installation all but caches.
    """
    for package in packages:
        for file in _list_files(package):
            target = folder / package.name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(package / file, target)


def measure(folder: Path, limit: int = UPLOAD_LIMIT) -> Upload:
    """What a folder holds; a ClusterError with the largest files where it is more than Ray takes."""
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = tuple(sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST])
    upload = Upload(folder, len(sizes), sum(sizes.values()), largest)
    if upload.bytes > limit:
        raise ClusterError(
            f"the upload is {upload}, but Ray Jobs takes at most {format_size(limit)}; keep data on storage that the "
            "cluster shares and name it in the study file"
        )
    return upload


def format_size(size: int) -> str:
    """Bytes in KiB or MiB."""
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 else f"{-(-size // 1024)} KiB"


def find_commit(folder: Path) -> str | None:
    """The git commit of a checkout, with `+` where files differ from it; None where it is no checkout."""
    commit = _ask_git(folder, "rev-parse", "HEAD")
    if commit is None or not (folder / ".git").exists():
        return None
    return commit.strip() + ("+" if (_ask_git(folder, "status", "--porcelain") or "").strip() else "")


def _list_files(package: Path) -> Iterator[Path]:
    listed = _ask_git(package, "ls-files", "-z", "--cached", "--others", "--exclude-standard", ".")
    if listed:  # else it is an installation, or ignored by the repository around it
        yield from (Path(name) for name in listed.split("\0") if name and (package / name).is_file())
        return
    for root, folders, names in os.walk(package):
        folders[:] = sorted(name for name in folders if name not in _NEVER and not name.startswith("."))
        for name in sorted(names):
            if not name.endswith(".pyc") and not name.startswith("."):
                yield (Path(root) / name).relative_to(package)


def _ask_git(folder: Path, *arguments: str) -> str | None:
    """What git prints in a folder; None where it is no checkout, or git is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
