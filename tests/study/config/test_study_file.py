"""A study file accepts what it documents; anything else is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.errors import UserError
from study.config.places import study_folder
from study.config.search_settings import Dimension
from study.config.study_file import make_base_recipe, make_json_schema, read_study

SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}}


DATABASE_LINE = (
    "study.yaml: unknown key 'database': Optuna's study is built in memory from the ledger since this version and "
    "needs no database; remove the key, and write a database for Optuna's own tools with `decred-study export STUDY "
    "--format optuna FILE.db`"
)


def write(folder: Path, **content: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "corpus": "speech", "search": SEARCH} | content))
    return path


def refuse(folder: Path, **content: Any) -> str:
    with pytest.raises(UserError) as error:
        make_base_recipe(read_study(write(folder, **content)))
    line = str(error.value)
    assert "\n" not in line
    return line


def test_the_corpus_is_relative_to_the_study_file(tmp_path: Path) -> None:
    study = read_study(write(tmp_path))
    assert study.corpus == str(tmp_path / "speech")
    assert make_base_recipe(study).data.corpus == study.corpus


def test_an_absolute_path_of_a_corpus_is_kept(tmp_path: Path) -> None:
    assert read_study(write(tmp_path, corpus="/speech/mine")).corpus == "/speech/mine"


def test_set_changes_dotted_keys_of_the_named_recipe(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, recipe={"base": "tiny", "set": {"training.epochs": 7}}))
    assert make_base_recipe(study).training.epochs == 7
    assert make_base_recipe(study).name == "tiny"


def test_a_recipe_file_is_relative_to_the_study_file_and_gets_the_studys_corpus(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("data: {corpus: elsewhere}\ntraining: {epochs: 3}\n")
    recipe = make_base_recipe(read_study(write(tmp_path, recipe={"base": "own.yaml"})))
    assert (recipe.training.epochs, recipe.data.corpus) == (3, str(tmp_path / "speech"))


def test_weights_and_tokenizer_in_set_are_relative_to_the_study_file(tmp_path: Path) -> None:
    values = {"init_from": "../published", "tokenizer.file": "pieces.model"}
    recipe = make_base_recipe(read_study(write(tmp_path, recipe={"base": "tiny", "set": values})))
    assert recipe.init_from == str(tmp_path.parent / "published")
    assert recipe.tokenizer.file == str(tmp_path / "pieces.model")


def test_the_study_folder_is_in_the_storage_under_the_studys_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study_folder(read_study(write(tmp_path, storage="runs"))) == tmp_path / "runs" / "mine"


def test_references_to_the_environment_are_kept_as_written(tmp_path: Path) -> None:
    uri = "postgresql://me:${NOT_SET}@host/runs"
    assert read_study(write(tmp_path, tracking=uri)).tracking == uri


def test_numbers_in_yamls_exponent_form_are_numbers() -> None:
    # YAML 1.1 reads 5e-4, without a dot, as text
    assert Dimension(**yaml.safe_load("{log_uniform: [5e-4, 3e-3]}")).range == (5e-4, 3e-3)


def test_the_json_schema_names_every_key_with_its_description() -> None:
    schema = json.loads(make_json_schema())
    assert {"name", "corpus", "recipe", "search", "baselines", "workers", "tracking"} <= schema["properties"].keys()
    assert schema["$defs"]["AuxiliarySettings"]["properties"]["final_weight"]["description"].startswith("[low, high]")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trails": 3}, "unknown key 'trails'; did you mean 'trials'?"),
        (
            {"search": {"ctc_weigth": {"uniform": [0, 1]}}},
            "unknown key 'search.ctc_weigth'; did you mean 'ctc_weight'?",
        ),
        (
            {"search": {"recipe": {"decoder.dropout": {"unifrom": [0, 1]}}}},
            "unknown key 'search.recipe.decoder.dropout.unifrom'; did you mean 'uniform'?",
        ),
        ({"workers": {"count": 0}}, "'workers.count' is 0; input should be greater than or equal to 1"),
        (
            {"workers": {"count": 2, "gpus": 0.5}},
            "workers: gpus is 0.5 with count 2, but workers that share a GPU cannot form a group (NCCL refuses two",
        ),
        ({"workers": {"gpus": 1.5}}, "gpus is 1.5, but must be a fraction below 1 or a whole number, as Ray has it"),
        ({"workers": {"wait_seconds": 0}}, "'workers.wait_seconds' is 0; input should be greater than 0"),
        ({"objective": {"metric": "test/test-in/wer"}}, "'objective.metric' is 'test/test-in/wer'"),
        ({"objective": {"second": "dev/wer"}}, "objective: second is dev/wer, and so is metric; name another"),
        ({"objective": {"second": "speed"}}, "'objective.second' is 'speed'; input should be 'dev/wer',"),
        ({"objective": {"metric": "dev/rtf"}}, "'objective.metric' is 'dev/rtf'; input should be 'dev/wer',"),
        ({"objective": {"limits": {"dev/rtf": 0}}}, "'objective.limits.dev/rtf' is 0; input should be greater than 0"),
        ({"baselines": ["edd"]}, "'baselines.0' is 'edd'; input should be 'ed', 'decred-paper', 'decred-published',"),
        ({"baselines": ["ed", "ed"]}, "must name each one once"),
        ({"search": {}}, "trials is 20, but search names nothing to vary"),
        ({"search": {}, "trials": 0, "baselines": []}, "there is nothing to try"),
        ({"name": "a/b"}, "'name' is 'a/b'"),
        ({"recipe": {"base": "tinny"}}, "recipe 'tinny' is unknown; did you mean 'tiny'?"),
        (
            {"recipe": {"set": {"training.epoch": 3}}},
            "recipe.set: unknown key 'training.epoch'; did you mean 'training.epochs'?",
        ),
        ({"recipe": {"set": {"data.corpus": "x"}}}, "name the corpus under 'corpus' instead"),
        ({"recipe": {"base": "gone.yaml"}}, "gone.yaml: cannot be read (No such file or directory)"),
        ({"database": None}, DATABASE_LINE),
        ({"database": "postgresql://host/db"}, DATABASE_LINE),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    assert message in refuse(tmp_path, **content)


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"uniform": [0.6, 0.1]}, "search.ctc_weight: uniform is [0.6, 0.1], but must be [low, high] with low below"),
        ({"log_uniform": [0.0, 0.1]}, "log_uniform starts at 0, but must start above 0; raise it or use uniform"),
        (
            {"uniform": [0, 1], "choice": [0, 1]},
            "has 2 forms, but must have one of uniform, log_uniform, integer, choice",
        ),
        ({}, "has 0 forms"),
        ({"choice": [0.1, 0.1]}, "must name each value once"),
        ({"choice": [0.1]}, "'search.ctc_weight.choice' is [0.1]; tuple should have at least 2 items"),
        ({"integer": [1.5, 3]}, "'search.ctc_weight.integer.0' is 1.5; input should be a valid integer"),
        ({"uniform": [0.1, float("inf")]}, "input should be a finite number"),
    ],
)
def test_an_invalid_dimension_is_refused(tmp_path: Path, dimension: dict[str, Any], message: str) -> None:
    assert message in refuse(tmp_path, search={"ctc_weight": dimension})


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        ({"final_weight": [0.0, 0.9]}, "final_weight is [0, 0.9], which leaves the final classifier nothing; raise"),
        ({"final_weight": [0.3, 1.2]}, "final_weight is [0.3, 1.2], which leaves auxiliary classifiers nothing; lower"),
        ({"final_weight": [0.9, 0.3]}, "must be [low, high]; swap them"),
        ({"count": [2, 1]}, "count is [2, 1], but must be [fewest, most]; swap them"),
        ({"count": [-1, 1]}, "'search.auxiliary.count.0' is -1"),
        ({"layers": [3, 1]}, "layers is [3, 1], but must be in ascending order, each layer once"),
    ],
)
def test_impossible_auxiliary_classifiers_are_refused(tmp_path: Path, auxiliary: dict[str, Any], message: str) -> None:
    assert message in refuse(tmp_path, search={"auxiliary": auxiliary})


def test_one_quantity_searched_twice_is_refused(tmp_path: Path) -> None:
    search = SEARCH | {"recipe": {"loss.ctc_weight": {"uniform": [0.1, 0.2]}}}
    assert "the CTC weight is searched twice" in refuse(tmp_path, search=search)


def test_placement_and_weights_are_refused_as_separate_quantities(tmp_path: Path) -> None:
    search = {"recipe": {"loss.auxiliary.weights": {"choice": [[0.1], [0.2]]}}}
    assert "use 'auxiliary: {count: ..., layers: ..., final_weight: ...}' instead" in refuse(tmp_path, search=search)
