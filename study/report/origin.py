"""Where a report's figures come from: versions, inputs, seeds, sessions, and the commands that make them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from model.errors import UserError
from model.strict import to_yaml
from study.config.study_file import StudyFile
from study.config.tracking_uri import mask_uri
from study.ledger.best import export_recipe
from study.ledger.events import AnyEvent, SessionStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.report.parts import OriginPart, Table

FIRST_PACKAGES = ("decred-study", "torch", "torchaudio", "ray", "optuna", "mlflow", "lhotse", "sentencepiece", "jiwer")


def make_origin(ledger: Ledger, events: Sequence[AnyEvent], best: TrialRecord | None) -> OriginPart:
    """Versions, inputs and commands of a study, its file, and the recipe of its best trial."""
    return OriginPart(
        tables=make_manifest_tables(ledger.manifest, events),
        commands=make_commands(ledger.study.name, ledger.manifest, best),
        study_file=format_study_file(ledger.study),
        best_recipe=format_best_recipe(ledger, best),
        settings=flatten_settings(ledger.study),
    )


def make_manifest_tables(manifest: Mapping[str, Any], events: Sequence[AnyEvent]) -> tuple[Table, ...]:
    """Inputs and machine, versions of packages, and the sessions with what changed between them."""
    return (_make_inputs(manifest), _make_packages(manifest), _make_sessions(events))


def _make_inputs(manifest: Mapping[str, Any]) -> Table:
    git, hardware = manifest.get("git") or {}, manifest.get("hardware") or {}
    commit = git.get("commit")
    rows = [
        ("commit", f"{commit}{' with uncommitted changes' if git.get('dirty') else ''}" if commit else "not known"),
        ("Python", manifest.get("python")),
        ("system", manifest.get("platform")),
        ("first host", manifest.get("host")),
        ("CPUs", hardware.get("cpus")),
        ("GiB of memory", hardware.get("memory_gib")),
        ("GPUs", ", ".join(hardware.get("gpus") or []) or "none"),
        *((f"hash of {name.replace('_', ' ')}", value) for name, value in (manifest.get("hashes") or {}).items()),
        *((f"seed of {name}", value) for name, value in (manifest.get("seeds") or {}).items()),
    ]
    return Table(
        "Inputs and machine", ("what", "value"), tuple((name, str(value)) for name, value in rows if value is not None)
    )


def _make_packages(manifest: Mapping[str, Any]) -> Table:
    packages = manifest.get("packages") or {}
    names = [name for name in FIRST_PACKAGES if name in packages]
    names += [name for name in packages if name not in names]
    return Table("Packages", ("package", "version"), tuple((name, str(packages[name])) for name in names))


def _make_sessions(events: Sequence[AnyEvent]) -> Table:
    rows = []
    for event in events:
        if isinstance(event, SessionStarted):
            changed = "; ".join(
                f"{name} {after}, was {before}" for name, (before, after) in list(event.changed.items())[:8]
            )
            rows.append(
                (
                    format_time(event.time),
                    event.version,
                    event.node or "–",
                    str(event.concurrency),
                    changed or "nothing",
                )
            )
    return Table("Sessions", ("began", "version", "node", "trials at a time", "changed since the first"), tuple(rows))


def format_time(seconds: float | None) -> str:
    """The time in UTC, to the minute."""
    return "–" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def make_commands(name: str, manifest: Mapping[str, Any], best: TrialRecord | None) -> tuple[str, ...]:
    """The commands that run the study again and train its best recipe."""
    version = (manifest.get("packages") or {}).get("decred-study")
    commands = [f"pip install decred-study=={version}"] if version else []
    commands.append(f"decred-study run {name}.yaml  # the study file below")
    if best is not None:
        commands.append(f"decred-study export studies/{name} -o best-recipe.yaml")
        commands.append("decred-study train best-recipe.yaml")
    return tuple(commands)


def format_study_file(study: StudyFile) -> str:
    """The study file as YAML, passwords of earlier versions masked; who gets messages is left out."""
    return to_yaml(_mask(study))


def format_best_recipe(ledger: Ledger, best: TrialRecord | None) -> str:
    """The best trial's recipe as YAML; empty where there is none, or where its file cannot be read any more."""
    if best is None:
        return ""
    try:
        return to_yaml(export_recipe(ledger, best.number)[0])
    except UserError:
        return ""


def flatten_settings(study: StudyFile) -> dict[str, str]:
    """The study file as dotted keys and texts, by which two studies are compared."""
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, part in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), part)
        elif value is not None:
            found[prefix] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    walk("", _mask(study).model_dump(mode="json"))
    return found


def _mask(study: StudyFile) -> StudyFile:
    tracking = None if study.tracking is None else mask_uri(study.tracking)
    return study.model_copy(update={"tracking": tracking, "notify": None})
