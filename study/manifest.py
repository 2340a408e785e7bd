"""What a study ran on: versions, git commit and hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

PACKAGES = ("decred-study", "ray", "torch", "torchaudio", "optuna", "mlflow", "lhotse", "sentencepiece", "jiwer")


def manifest() -> dict[str, Any]:
    """A JSON-able description of this installation and machine; `id` tells this study from others of its name."""
    return {
        "id": uuid.uuid4().hex,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git": _git(),
        "hardware": {"cpus": os.cpu_count(), "memory_bytes": _memory_bytes(), "gpus": _gpus()},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of the checkout this runs from; None when installed from a wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    status = _output("git", "-C", str(root), "status", "--porcelain")
    return {"commit": commit, "dirty": bool(status)} if commit else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gpus() -> list[str]:
    return _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def _output(*command: str) -> str:
    """What a command prints; nothing when it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
