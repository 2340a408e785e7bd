"""The manifest of a session, and its differences from the first one."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.corpora.corpus import Corpus
from model.data.recipe_inputs import ensure_tokenizer
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from study.config.study_file import StudyFile
from study.ledger.manifest import describe_changes, find_changes, make_manifest

FIRST: dict[str, Any] = {
    "id": "a",
    "python": "3.11.2",
    "host": "one",
    "packages": {"torch": "2.11.0", "zipp": "3"},
    "git": {"commit": "1a2b", "dirty": False},
    "hardware": {"cpus": 2, "gpus": ["A100"]},
}


def test_the_manifest_has_versions_and_machine() -> None:
    manifest = make_manifest()
    assert manifest["packages"].keys() >= {"ray", "torch", "optuna", "mlflow", "pydantic", "sqlalchemy", "rich"}
    assert (manifest["hardware"]["cpus"], manifest["host"]) == (os.cpu_count(), socket.gethostname())
    assert manifest["python"] == sys.version.split()[0]
    assert make_manifest()["id"] != manifest["id"]
    assert json.loads(json.dumps(manifest)) == manifest
    assert find_changes(manifest, make_manifest()) == {}


def test_the_manifest_has_the_hashes_of_the_inputs_and_the_seeds(
    corpus: Corpus, make_recipe: Callable[..., Recipe]
) -> None:
    base = make_recipe({"training.seed": 7, "data.seed": 8})
    study = StudyFile.model_validate(
        {"name": "s", "corpus": "c", "search": {"seed": 9, "ctc_weight": {"uniform": [0.1, 0.5]}}}
    )
    manifest = make_manifest(study, base)
    assert manifest["seeds"] == {"search": 9, "training": 7, "data": 8}
    hashes = manifest["hashes"]
    assert hashes["corpus"] == corpus.fingerprint
    assert hashes["tokenizer"] == file_fingerprint(ensure_tokenizer(base, corpus))
    assert hashes["base_recipe"] == base.hash
    assert hashes["normaliser"].startswith("basic ")
    other = make_manifest(study.model_copy(update={"trials": 3}), with_values(base, {"training.seed": 6}))
    assert find_changes(manifest, other).keys() == {"hashes.base_recipe", "hashes.study_file", "seeds.training"}


@pytest.mark.parametrize(
    ("now", "changes", "line"),
    [
        ({}, {}, None),
        ({"id": "b"}, {}, None),
        (
            {"packages": {"torch": "2.12.0", "zipp": "3"}},
            {"packages.torch": ["2.11.0", "2.12.0"]},
            "continues with torch 2.12.0, started with 2.11.0",
        ),
        (
            {"packages": {"torch": "2.11.0", "zipp": "4"}, "host": "two", "git": {"commit": "3c4d", "dirty": True}},
            {
                "host": ["one", "two"],
                "packages.zipp": ["3", "4"],
                "git.commit": ["1a2b", "3c4d"],
                "git.dirty": [False, True],
            },
            "continues with commit 3c4d, started with 1a2b; uncommitted changes yes, started with no; "
            "host two, started with one; zipp 4, started with 3",
        ),
        (
            {"packages": {"torch": "2.11.0"}, "hardware": {"cpus": 4, "gpus": []}},
            {"packages.zipp": ["3", None], "hardware.cpus": [2, 4], "hardware.gpus": [["A100"], []]},
            "continues with cpus 4, started with 2; gpus none, started with A100; zipp none, started with 3",
        ),
        ({"git": None}, {}, None),
        ({"hashes": {"corpus": "abc"}}, {}, None),
    ],
)
def test_differences_from_the_first_session_are_listed(
    now: dict[str, Any], changes: dict[str, Any], line: str | None
) -> None:
    assert find_changes(FIRST, FIRST | now) == changes
    assert describe_changes(find_changes(FIRST, FIRST | now)) == line


def test_the_line_names_the_most_important_changes_and_counts_the_rest() -> None:
    before = {"packages": {f"a{i}": "1" for i in range(9)} | {"torch": "1", "ray": "1"}}
    after = {"packages": dict.fromkeys(before["packages"], "2")}
    line = describe_changes(find_changes(before, after))
    assert line is not None
    assert line.startswith("continues with ray 2, started with 1; torch 2, started with 1; a0 2")
    assert line.endswith("a3 2, started with 1; and 5 more, see events/")


def test_a_changed_study_file_is_a_change_that_the_line_leaves_out() -> None:
    changes = find_changes({"hashes": {"study_file": "a"}}, {"hashes": {"study_file": "b"}})
    assert changes == {"hashes.study_file": ["a", "b"]}
    assert describe_changes(changes) is None


def test_the_tokenizers_hash_is_of_the_file_that_the_recipe_names(
    tmp_path: Path, corpus: Corpus, make_recipe: Callable[..., Recipe]
) -> None:
    base = make_recipe()
    own = tmp_path / "own.model"
    own.write_bytes(ensure_tokenizer(base, corpus).read_bytes() + b"\n")
    study = StudyFile(name="s", corpus="c", trials=0)
    manifest = make_manifest(study, with_values(base, {"tokenizer.file": str(own)}))
    assert manifest["hashes"]["tokenizer"] == file_fingerprint(own) != make_manifest(study, base)["hashes"]["tokenizer"]
