"""Hypotheses of small systems, as runs write them, and what is gathered of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from study.errors.content import Content
from study.errors.gathering import gather
from study.errors.systems import find_systems

# Set and speaker are those before the hyphens; one reference is empty, one right to left, one a page's own language.
REFERENCES = {
    "in-anna-1": "turn the light on",
    "in-anna-2": "book a seat in the train",
    "in-ben-1": "is it open now",
    "in-ben-2": "",
    "out-ben-3": "</script><script>window.hit=1</script> & <b>bold</b>",
    "out-carl-1": "שלום עולם טוב",
}
FIRST = {
    "in-anna-1": "turn light on",
    "in-anna-2": "book a sheet in the train please",
    "in-ben-1": "is it open now",
    "in-ben-2": "oops",
    "out-ben-3": "<img src=x onerror=window.hit=2> & <b>bold</b>",
    "out-carl-1": "שלום טוב מאוד",
}
SECOND = FIRST | {"in-anna-1": "turn the light on", "in-anna-2": "", "in-ben-1": "it was open now"}

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write the folder of a run with the hypotheses of one file, as scoring writes them."""

    def write(
        name: str,
        hypotheses: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
        references: Mapping[str, str] = REFERENCES,
        part: str = "test",
    ) -> Path:
        path = tmp_path / name / "hypotheses" / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for key, text in hypotheses.items():
            set_name, speaker, _ = key.split("-")
            content = {"id": key, "reference": references[key], "hypothesis": text}
            lines.append(json.dumps(content | {"speaker": speaker, "set_name": set_name}, ensure_ascii=False))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if settings is not None:
            path.with_suffix(".settings.json").write_text(json.dumps(settings))
        return tmp_path / name

    return write


@pytest.fixture
def two_systems(write_run: WriteRun) -> Content:
    return gather(find_systems([write_run("first", FIRST), write_run("second", SECOND)]))
