"""The manifest of a session: versions, git commit, hashes of its inputs, seeds, hardware; and what changed since."""

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
from typing import TYPE_CHECKING, Any

from model.corpora import normaliser
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint, to_yaml
from study.config.study_file import StudyFile

if TYPE_CHECKING:
    from model.corpora.corpus import Corpus

MANIFEST_SECTIONS = ("python", "platform", "host", "packages", "git", "hardware", "hashes", "seeds")
_LISTED_FIRST = ("decred-study", "ray", "torch", "torchaudio", "optuna", "mlflow", "lhotse", "sentencepiece", "jiwer")
_MOST_LISTED = 6
_STUDY_FILE_HASH = "hashes.study_file"  # not listed: a study file is changed on purpose
_LABELS = {
    "python": "Python",
    "platform": "system",
    "hardware.memory_gib": "GiB of memory",
    "git.dirty": "uncommitted changes",
}

Changes = dict[str, list[Any]]
COMMIT_VARIABLE = "DECRED_STUDY_COMMIT"  # of code that was uploaded, with `+` where files differed from it


def make_manifest(study: StudyFile | None = None, base: Recipe | None = None) -> dict[str, Any]:
    """The manifest of this session, made of JSON types; `id` distinguishes this study from others of its name.

    `base` is the prepared base recipe, whose tokenizer exists. Without both, the manifest has no hashes and no seeds.
    """
    manifest: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": _list_packages(),
        "git": _describe_checkout(),
        "hardware": {"cpus": os.cpu_count(), "memory_gib": _measure_memory_gib(), "gpus": _list_gpus()},
    }
    if study is not None and base is not None:
        corpus = _load_corpus(base)
        manifest["hashes"] = _hash_inputs(study, base, corpus)
        if corpus.references:
            manifest["references"] = corpus.references
        manifest["seeds"] = {"search": study.search.seed, "training": base.training.seed, "data": base.data.seed}
    return manifest


def find_changes(first: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """The differences of two manifests, as {"packages.torch": [before, after]}, in the sections that both have."""
    shared = [key for key in MANIFEST_SECTIONS if first.get(key) is not None and now.get(key) is not None]
    before, after = (
        {name: value for key in shared for name, value in _flatten(key, manifest[key])} for manifest in (first, now)
    )
    names = list(dict.fromkeys([*before, *after]))
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def describe_changes(changes: Changes) -> str | None:
    """One line with the changes since the study was started, the most important first; None where there are none."""
    names = sorted((name for name in changes if name != _STUDY_FILE_HASH), key=_rank_name)
    if not names:
        return None
    pairs = [(_label(name), *map(_shorten, changes[name])) for name in names]
    parts = [f"{label} {after}, started with {before}" for label, before, after in pairs]
    more = f"; and {len(parts) - _MOST_LISTED} more, see events/" if len(parts) > _MOST_LISTED else ""
    return f"continues with {'; '.join(parts[:_MOST_LISTED])}{more}"


def find_version() -> str:
    """The installed version of decred-study."""
    return importlib.metadata.version("decred-study")


def list_versions() -> dict[str, str]:
    """Versions of Python and of every installed package."""
    return {"python": platform.python_version()} | _list_packages()


def _list_packages() -> dict[str, str]:
    """Every installed package, because it is known only later which of them a result depends on."""
    installed = ((package.name, package.version) for package in importlib.metadata.distributions())
    return dict(sorted((name.lower().replace("_", "-"), version) for name, version in installed if name))


def _load_corpus(base: Recipe) -> Corpus:
    # Here, because commands that only read a study must not wait for the import.
    from model.data.recipe_inputs import load_corpus

    return load_corpus(base)


def _hash_inputs(study: StudyFile, base: Recipe, corpus: Corpus) -> dict[str, str | None]:
    from model.data.recipe_inputs import ensure_tokenizer

    return {
        "corpus": corpus.fingerprint,
        "tokenizer": file_fingerprint(ensure_tokenizer(base, corpus)),
        "normaliser": f"{corpus.normaliser_version} {file_fingerprint(Path(normaliser.__file__))}",
        "base_recipe": base.hash,
        "study_file": hashlib.sha256(to_yaml(study).encode()).hexdigest()[:16],
    }


def _flatten(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [pair for key, part in value.items() for pair in _flatten(f"{name}.{key}", part)]


def _rank_name(name: str) -> tuple[int, str]:
    section, _, rest = name.partition(".")
    if section != "packages":
        return len(_LISTED_FIRST), name
    return (_LISTED_FIRST.index(rest) if rest in _LISTED_FIRST else len(_LISTED_FIRST) + 1), name


def _label(name: str) -> str:
    return _LABELS.get(name, name.partition(".")[2].replace("_", " ") or name)


def _shorten(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = " + ".join(map(str, value))
    return str(value or "none")[:60]


def _describe_checkout() -> dict[str, Any] | None:
    """Commit of the checkout that this code runs from; None where it was installed from a wheel.

    Code that was uploaded to a cluster has it from the machine that it came from.
    """
    root = Path(__file__).resolve().parents[2]
    if submitted := os.environ.get(COMMIT_VARIABLE):
        return {"commit": submitted.removesuffix("+"), "dirty": submitted.endswith("+")}
    if not (root / ".git").exists():
        return None
    commit = _run_command("git", "-C", str(root), "rev-parse", "HEAD")
    status = _run_command("git", "-C", str(root), "status", "--porcelain")
    return {"commit": commit, "dirty": bool(status)} if commit else None


def _measure_memory_gib() -> int | None:
    """Rounded to GiB, because the kernel's own share differs by some megabytes from one boot to the next."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError):
        return None


def _list_gpus() -> list[str]:
    return _run_command("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def _run_command(*command: str) -> str:
    """The standard output of a command; empty where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""
