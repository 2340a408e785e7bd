"""What a trial has reported, kept in its folder by worker 0: a study that is stopped may not hear the last of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

REPORTS = "reports.jsonl"


def keep_report(folder: Path, metrics: Mapping[str, float]) -> None:
    """Add one epoch's metrics."""
    with (folder / REPORTS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(metrics) + "\n")


def reports_in(folder: Path) -> list[dict[str, float]]:
    """Every epoch's metrics, a last line that a crash tore left out."""
    reports: list[dict[str, float]] = []
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / REPORTS).read_text(encoding="utf-8").splitlines():
            reports.append(json.loads(line))
    return reports
