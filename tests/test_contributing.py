"""CONTRIBUTING.md names files and rooms; a renamed one has to be renamed there too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_house import ROOMS, ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:model|study|cluster|search_spaces|tests)/[\w/.]*)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_questions_of_a_new_developer_are_answered() -> None:
    answers = dict(re.findall(r"^\| (where [^|]+) \| (.*) \|$", TEXT, re.MULTILINE))
    assert {
        "where is a trial stopped early",
        "where does a WER become an MLflow metric",
        "where is the CTC prefix score",
    } <= answers.keys()
    assert all(re.search(r"`[\w/]+\.py`", answer) for answer in answers.values())


@pytest.mark.parametrize("package", ROOMS)
def test_the_rooms_are_listed_in_the_order_of_the_import_table(package: str) -> None:
    table = TEXT.split(f"| room of `{package}/` |")[1].split("\n\n")[0]
    named = [name.removesuffix(".py").rstrip("/") for row in table.splitlines() for name in _first_cell(row)]
    rooms = [room for room in ROOMS[package] if "." not in room and room != "__main__"]
    assert named == rooms


def _first_cell(row: str) -> list[str]:
    return re.findall(r"`([^`]+)`", row.split("|")[1]) if row.count("|") > 2 else []


def test_every_path_is_a_file_and_not_only_the_pattern() -> None:
    assert len(PATHS) > 30
    assert Path("study/cli/prepare.py") in map(Path, PATHS)
