from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from study.display.references import print_references

FIGURES = {"ED base": {"wer": 2.5, "ilm_perplexity": 459.8}, "DeCRED base": {"wer": 2.4, "mer": 1.5}}


def printed(manifest: dict[str, Any], *metrics: dict[str, float]) -> list[str]:
    records = {number: SimpleNamespace(final_metrics=one) for number, one in enumerate(metrics)}
    ledger: Any = SimpleNamespace(manifest=manifest, trials=records)
    stream = io.StringIO()
    print_references(ledger, Console(file=stream, width=40))
    return stream.getvalue().splitlines()


def test_published_figures_are_printed_of_sets_that_a_trial_was_scored_on() -> None:
    manifest = {"references": {"clean": FIGURES, "other": FIGURES}}
    assert printed(manifest, {"dev/wer": 9.0}, {"test/clean/wer": 3.0, "test/own/wer": 4.0}) == [
        "published on clean: ED base WER 2.5 %, ILM perplexity 459.8; DeCRED base WER 2.4 %, mer 1.5"
    ]


def test_nothing_is_printed_where_nothing_is_published_or_scored() -> None:
    assert printed({}, {"test/clean/wer": 3.0}) == []
    assert printed({"references": {"clean": FIGURES}}, {"dev/wer": 3.0}) == []
