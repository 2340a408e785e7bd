"""The charts of a saved view of MLflow's runs page, in sections whose names say what they show.

MLflow's page names most charts itself, after their axes. Nothing here imports MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.tracking.run_content import CHOSEN, PLACEMENT, TRIAL

_MAX_RUNS = 100  # in one chart
_MAX_COLUMNS = 2  # of charts in a section
_HEIGHT = 360  # pixels of a chart


@dataclass(frozen=True)
class Figures:
    """The names of the metrics that trials have by now, and of the quantities that are searched."""

    metrics: Mapping[str, None]
    searched: tuple[str, ...]
    objective: str  # as a study names it, such as dev/wer
    best: str  # by which trials are sorted
    curve: str  # the best so far

    def choose(self, *names: str) -> list[str]:
        """Those that are known, in this order."""
        return [name for name in names if name in self.metrics]


def make_charts(figures: Figures) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The sections of the charts page, whose names say what their charts show, and the charts."""
    best, wer = figures.best, {"key": figures.best, "type": "METRIC"}
    trial, placement = _axis(TRIAL), _axis(PLACEMENT)
    numbers = [name for name in figures.searched if not name.startswith("auxiliary.")]
    words = [PLACEMENT] if "auxiliary.placement" in figures.searched else []
    of_sections: dict[str, list[dict[str, Any]]] = {
        "Trials in their order, and the best so far": [_scatter(trial, wer), _line(figures.curve)],
        "Internal language model": [
            _scatter({"key": name, "type": "METRIC"}, wer) for name in figures.choose(f"{CHOSEN}dev/ilm_perplexity")
        ],
        "In and out of domain": [
            _scatter(*({"key": name, "type": "METRIC"} for name in pair)) for pair in _pair_domains(figures)
        ],
        "Placement and weight of classifiers": [
            _scatter(placement, wer),
            {"type": "CONTOUR", "xaxis": placement, "yaxis": _axis("final_weight"), "zaxis": wer},
        ]
        if words
        else [],
        "Searched values": [_scatter(_axis(name), wer) for name in numbers],
        "All values": [
            {
                "type": "PARALLEL",
                "selectedParams": ["class", *words, *numbers],
                "selectedMetrics": [best],
                "showAllRuns": True,
            }
        ],
        "Learning curves": [_line(figures.objective)],
    }
    sections, charts = [], []
    for number, (name, parts) in enumerate((name, parts) for name, parts in of_sections.items() if parts):
        layout = {"columns": min(len(parts), _MAX_COLUMNS), "cardHeight": _HEIGHT}
        sections.append({"uuid": f"section-{number}", "name": name, "display": True, "isReordered": True, **layout})
        for position, part in enumerate(parts):
            identity = {"uuid": f"chart-{number}-{position}", "metricSectionId": f"section-{number}"}
            flags = {"deleted": False, "isGenerated": False, "runsCountToCompare": _MAX_RUNS}
            charts.append(identity | flags | part)
    return sections, charts


def _pair_domains(figures: Figures) -> list[tuple[str, str]]:
    pairs = [(f"{start}in_domain/wer", f"{start}out_of_domain/wer") for start in (f"{CHOSEN}dev/", "")]
    return [pair for pair in pairs if len(figures.choose(*pair)) == 2]


def _scatter(x: Mapping[str, str], y: Mapping[str, str]) -> dict[str, Any]:
    return {"type": "SCATTER", "xaxis": x, "yaxis": y}


def _line(metric: str) -> dict[str, Any]:
    """A curve as it was measured: MLflow's page smooths curves by default."""
    measured = {"lineSmoothness": 0, "useGlobalLineSmoothing": False, "useGlobalXaxisKey": False}
    return {"type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric], "xAxisKey": "step", **measured}


def _axis(param: str) -> dict[str, str]:
    return {"key": param, "type": "PARAM"}
