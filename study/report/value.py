"""The report of a study as a frozen value. Whatever any form of it shows is in here, and can be read out as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from study.pages.page import replace_non_finite
from study.report.parts import (
    Association,
    DecodingSurface,
    HoursPart,
    ImportancePart,
    Notes,
    OriginPart,
    PlacementPart,
    Plane,
    ProgressPart,
    Quantity,
    Standing,
    Table,
    TestsPart,
    Trial,
    VerdictPart,
)

FORMAT = 1  # of the JSON


@dataclass(frozen=True)
class Report:
    """What a study found. `made_of` is the time of the last event, in Unix seconds."""

    name: str
    question: str
    state: str
    objective: str  # the metric that trials report
    ranked_by: str
    ranked_label: str
    ranked_stage: str | None  # of the search for a decoding, which all complete trials reached
    version: str
    made_of: float | None
    counts: Mapping[str, int]
    headline: Notes
    standings: tuple[Standing, ...]
    trials: tuple[Trial, ...]
    columns: tuple[str, ...]  # metrics of the table of trials
    quantities: tuple[Quantity, ...]
    verdict: VerdictPart
    tests: TestsPart
    planes: tuple[Plane, ...]
    placements: PlacementPart
    associations: tuple[Association, ...]
    importance: ImportancePart
    progress: ProgressPart
    decodings: tuple[DecodingSurface, ...]
    hours: HoursPart
    failures: Table
    origin: OriginPart
    not_helped: Notes = ()
    format: int = FORMAT


def to_dict(report: Report) -> dict[str, Any]:
    """The report as JSON types; figures that are not finite are None."""
    return dict(replace_non_finite(asdict(report)))


def to_json(report: Report) -> str:
    """The report as JSON text."""
    return json.dumps(to_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
