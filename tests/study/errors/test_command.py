"""The command `errors`: what it writes, where, and what it says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model.errors import UserError
from study.cli import errors as command
from study.errors.content import Content
from study.errors.output import write_errors
from study.verdict.hypotheses import read_hypotheses

WriteRun = Callable[..., Path]
FIRST = {"in-anna-1": "turn light on", "in-ben-1": "is it open now"}
SECOND = {"in-anna-1": "turn the light on", "in-ben-1": "is it open"}


@pytest.fixture
def folders(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Two runs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return [write_run(name, texts).name for name, texts in (("first", FIRST), ("second", SECOND))]


def run(*words: str) -> Result:
    return CliRunner().invoke(command.app, words, catch_exceptions=False)


def test_every_form_is_written_under_its_usual_name(folders: list[str]) -> None:
    for form in ("html", "csv", "json", "pra", "sys", "dtl", "trn"):
        result = run(*folders, "--format", form)
        out = "errors-trn" if form == "trn" else f"errors.{form}"
        assert result.output.splitlines()[-1] == f"{out} written"
        assert Path(out).exists()
    assert "The corpus is not known: without seconds and audio." in result.stderr
    rows = list(csv.DictReader(Path("errors.csv").read_text().splitlines()))
    assert [(row["id"], row["alignment A"], row["D A"], row["WER A - B"]) for row in rows] == [
        ("in-anna-1", "CDCC", "1", "25.00"),
        ("in-ben-1", "CCCC", "0", "-25.00"),
    ]
    content = json.loads(Path("errors.json").read_text())
    assert [system["name"] for system in content["systems"]] == folders
    assert content["sets"][0]["systems"][1]["wer"] == 12.5
    assert Path("errors.sys").read_text().count("SYSTEM SUMMARY") == 2
    assert Path("errors.dtl").read_text().count("DETAILED OVERALL REPORT FOR THE SYSTEM: second") == 1


def test_trn_files_are_read_again_as_they_were(folders: list[str]) -> None:
    run(*folders, "--format", "trn", "-o", "trn")
    for name, texts in (("A", FIRST), ("B", SECOND)):
        found = read_hypotheses(Path("trn", f"{name}.trn")).hypotheses
        assert {key: hypothesis.text for key, hypothesis in found.items()} == texts
    result = run("trn/A.trn", "--reference", "trn/reference.trn", "--format", "json", "-o", "again.json")
    assert result.exit_code == 0
    assert json.loads(Path("again.json").read_text())["sets"][0]["systems"][0]["wer"] == 12.5


def test_what_cannot_be_written_or_is_empty_is_one_line(two_systems: Content, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, but trn files are written into a folder; give another -o"):
        write_errors(two_systems, "trn", tmp_path / "file", "x")
    with pytest.raises(UserError, match=r"file/errors.csv: cannot be written \(.*\); give another -o"):
        write_errors(two_systems, "csv", tmp_path / "file" / "errors.csv", "x")
    with pytest.raises(UserError, match="there is no utterance to show; give hypotheses of a set that has some"):
        write_errors(Content(two_systems.systems, ()), "csv", tmp_path / "errors.csv", "x")


def test_on_a_cluster_it_is_asked_of_one_study_with_all_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []

    def ask(*arguments: object) -> None:
        asked.append(arguments)

    monkeypatch.setattr(command, "run_where_it_is", ask)
    result = run("demo", "--on", "lab", "--trial", "3", "--set", "test-in", "--format", "csv", "-o", "there.csv")
    assert result.output == "there.csv written\n"
    words = ["errors", "STUDY", "--format", "csv", "--audio", "link", "--normaliser", "none", "-o", "OUT"]
    words += ["--set", "test-in", "--trial", "3"]
    assert asked == [("lab", Path("demo"), words, Path("there.csv"))]
    with pytest.raises(UserError, match="--on takes one study that is there, without --corpus and --reference; leave"):
        run("demo", "other.trn", "--on", "lab")
