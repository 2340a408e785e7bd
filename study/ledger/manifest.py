"""What a study ran on and from: versions, git commit, hashes of what went in, seeds, hardware."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import model.data.normaliser
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint, to_yaml
from model.training.prepare import ensure_tokenizer, load_corpus
from study.config.study_file import StudyFile

MANIFEST_SECTIONS = ("python", "platform", "host", "packages", "git", "hardware", "hashes", "seeds")
_TOLD_FIRST = ("decred-study", "ray", "torch", "torchaudio", "optuna", "mlflow", "lhotse", "sentencepiece", "jiwer")
_MOST_TOLD = 6
_OWN_WISH = "hashes.study_file"  # who changes the study file knows it
_WORDS = {
    "python": "Python",
    "platform": "system",
    "hardware.memory_gib": "GiB of memory",
    "git.dirty": "uncommitted changes",
}

Changes = dict[str, list[Any]]


def manifest(study: StudyFile | None = None, base: Recipe | None = None) -> dict[str, Any]:
    """A JSON-able description of this session; `id` tells this study from others of its name.

    `base` is the prepared base recipe: its tokenizer is there. Without both, nothing is said about hashes and seeds.
    """
    about: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": _packages(),
        "git": _git(),
        "hardware": {"cpus": os.cpu_count(), "memory_gib": _memory_gib(), "gpus": _gpus()},
    }
    if study is not None and base is not None:
        about["hashes"] = _hashes(study, base)
        about["seeds"] = {"search": study.search.seed, "training": base.training.seed, "data": base.data.seed}
    return about


def changed(begun: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """What differs between two sessions, as {"packages.torch": [was, is]}; sections that one lacks are left out."""
    shared = [key for key in MANIFEST_SECTIONS if begun.get(key) is not None and now.get(key) is not None]
    before, after = ({name: value for key in shared for name, value in _flat(key, one[key])} for one in (begun, now))
    names = list(dict.fromkeys([*before, *after]))
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def changes_line(changes: Changes) -> str | None:
    """One line that names what a session goes on with; None when that is what the study was begun with."""
    told = sorted((name for name in changes if name != _OWN_WISH), key=_importance)
    if not told:
        return None
    parts = [f"{_word(name)} {_brief(changes[name][1])}, begun with {_brief(changes[name][0])}" for name in told]
    more = f"; and {len(parts) - _MOST_TOLD} more, see events.jsonl" if len(parts) > _MOST_TOLD else ""
    return f"goes on with {'; '.join(parts[:_MOST_TOLD])}{more}"


def _packages() -> dict[str, str]:
    """Everything installed: which of it a result depends on is known only afterwards."""
    found = ((each.name, each.version) for each in importlib.metadata.distributions())
    return dict(sorted((name.lower().replace("_", "-"), version) for name, version in found if name))


def _hashes(study: StudyFile, base: Recipe) -> dict[str, str | None]:
    corpus = load_corpus(base)
    return {
        "corpus": corpus.fingerprint,
        "tokenizer": file_fingerprint(ensure_tokenizer(base, corpus)),
        "normaliser": f"{corpus.normaliser} {file_fingerprint(Path(model.data.normaliser.__file__))}",
        "base_recipe": base.hash,
        "study_file": hashlib.sha256(to_yaml(study).encode()).hexdigest()[:16],
    }


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [pair for key, each in value.items() for pair in _flat(f"{name}.{key}", each)]


def _importance(name: str) -> tuple[int, str]:
    section, _, rest = name.partition(".")
    if section != "packages":
        return len(_TOLD_FIRST), name
    return (_TOLD_FIRST.index(rest) if rest in _TOLD_FIRST else len(_TOLD_FIRST) + 1), name


def _word(name: str) -> str:
    return _WORDS.get(name, name.partition(".")[2].replace("_", " ") or name)


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = " + ".join(map(str, value))
    return str(value or "none")[:60]


def _git() -> dict[str, Any] | None:
    """Commit of the checkout this runs from; None when installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    status = _output("git", "-C", str(root), "status", "--porcelain")
    return {"commit": commit, "dirty": bool(status)} if commit else None


def _memory_gib() -> int | None:
    """Whole GiB: a kernel keeps some megabytes more or less from one boot to the next."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
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
