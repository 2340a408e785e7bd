"""The commands that prepare corpora from what users have: what each hands to its reader, and to the preparation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from recordings import describe, write_segments
from typer.testing import CliRunner

from model.corpora.corpus import read_corpus
from model.corpora.preparation import FINDINGS_FILE
from model.corpora.source import Source
from study.cli.main import app

OPTIONS = (
    "--name",
    "mine",
    "--normaliser",
    "none",
    "--set",
    "extra=none",
    "--rule",
    "test-speaker=drop",
    "--jobs",
    "1",
)
MODULES = "model.corpora.sources"


@pytest.mark.parametrize(
    ("arguments", "reader", "given"),
    [
        (["table", "t.tsv"], "table.read_table", (Path("t.tsv"),)),
        (["kaldi", "data/train", "data/dev"], "kaldi.read_kaldi", ([Path("data/train"), Path("data/dev")],)),
        (
            ["lhotse", "tedlium", "ted", "--option", "dataset_parts=train,dev", "--option", "normalize_text=none"],
            "lhotse_recipe.read_lhotse_recipe",
            ("tedlium", [Path("ted")], {"dataset_parts": "train,dev", "normalize_text": "none"}, 1),
        ),
        (["manifest", "a.jsonl", "b"], "manifest.read_manifests", ([Path("a.jsonl"), Path("b")],)),
        (
            ["hf", "saved", "--text", "raw", "--audio", "far", "--speaker", "who"],
            "hugging_face.read_hugging_face",
            (Path("saved"), "raw", "far", "who"),
        ),
    ],
)
def test_each_command_prepares_what_its_reader_gives_with_the_same_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reader: str, given: tuple[Any, ...]
) -> None:
    segments = write_segments(tmp_path / "recordings", {"train": 3, "dev": 1, "extra": 1})
    seen: list[tuple[Any, ...]] = []

    def read(*values: Any) -> Source:
        seen.append(values)
        return Source("small", "the source", segments)

    monkeypatch.setattr(f"{MODULES}.{reader}", read)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["prepare", *arguments, *OPTIONS, "--out", str(out)], catch_exceptions=False)
    assert (seen, result.exit_code) == ([given], 0)
    corpus = read_corpus(out)
    assert (corpus.name, corpus.normaliser, list(corpus.sets)) == ("mine", "none", ["train", "dev"])
    assert describe(corpus)["dev"] == [("dev-0", "dev sentence 0", "dev-ann")]
    assert result.output.splitlines()[-1] == f"corpus in {corpus.folder}: train 3, dev 1 utterances"


def test_what_was_found_is_printed_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = write_segments(tmp_path / "recordings", {"train": 3, "dev": 1})
    os.unlink(segments[1].audio.file)
    monkeypatch.setattr(f"{MODULES}.kaldi.read_kaldi", lambda folders: Source("small", "the source", segments))
    out = tmp_path / "out"
    command = ["prepare", "kaldi", "data", "--no-copy", "--jobs", "1", "--out", str(out)]
    lines = CliRunner().invoke(app, command, catch_exceptions=False).output.splitlines()
    assert "1 left out: no such audio file (row train-1: train-1.wav) [missing]" in lines
    assert f"all of them are listed in {read_corpus(out).folder / FINDINGS_FILE}" in lines
    assert not (out / "audio").exists()
