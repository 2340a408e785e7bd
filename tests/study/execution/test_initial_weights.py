"""A study whose trials could not start from the weights of its base recipe is refused before its first trial."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.training.prepare import prepare
from model.weights.taken_weights import INITIALISATION_FILE
from study.config.search_settings import SearchSettings
from study.config.study_file import StudyFile, read_study
from study.execution.checks import check
from study.execution.initial_weights import check_search
from study.execution.shared_training import share_training
from study.ledger.ledger import Ledger


@pytest.fixture(scope="module")
def first(make_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of one encoder layer and four decoder layers."""
    folder = tmp_path_factory.mktemp("initial") / "first"
    train(make_recipe({"training.epochs": 1}), folder, lambda _: None)
    return folder


def make_search(recipe: dict[str, Any]) -> SearchSettings:
    return SearchSettings.model_validate({"ctc_weight": {"uniform": [0.1, 0.6]}, "recipe": recipe})


@pytest.mark.parametrize(
    "searched",
    [
        {},
        {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "encoder.dropout": {"uniform": [0.0, 0.2]}},
        {"initialisation.take": {"choice": [["*"], ["encoder.*"], []]}},
        {
            "initialisation.leave": {"choice": [["decoder.*"], ["decoder.*", "ctc.*"]]},
            "decoder.layers": {"integer": [2, 6]},
        },
        {"initialisation.vocabulary": {"choice": ["by_piece", "leave"]}, "tokenizer.vocabulary": {"integer": [30, 50]}},
    ],
)
def test_a_search_of_which_every_form_fits_passes(make_recipe, first: Path, searched: dict[str, Any]) -> None:
    check_search(make_recipe({"init_from": str(first)}), make_search(searched))


@pytest.mark.parametrize(
    ("searched", "message"),
    [
        (
            {"decoder.layers": {"integer": [4, 6]}},
            "search can meet decoder.layers 6, but init_from {first}: holds no tensor 'decoder.layers.4.",
        ),
        (
            {
                "initialisation.unfit": {"choice": ["leave", "refuse"]},
                "encoder.heads": {"choice": [2, 4]},
            },
            "search can meet initialisation.unfit refuse, encoder.heads 4, but init_from {first}: was trained with "
            "encoder.heads 2, but the recipe has 4; set it to 2",
        ),
        (
            {"initialisation.take": {"choice": [["*"], ["encodr.*"]]}},
            "search can meet initialisation.take ['encodr.*'], but init_from {first}: initialisation.take has "
            "'encodr.*', which matches no tensor; did you mean 'encoder.*'?",
        ),
        (
            {"tokenizer.vocabulary": {"integer": [30, 40]}},
            "search can meet tokenizer.vocabulary 30, but init_from {first}: tensor 'ctc.1.weight' has shape (41, 16), "
            "but the recipe's model needs (31, 16)",
        ),
    ],
)
def test_a_form_that_could_not_start_is_named(make_recipe, first: Path, searched: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message.format(first=first))) as caught:
        check_search(make_recipe({"init_from": str(first)}), make_search(searched))
    assert "\n" not in str(caught.value)


def test_a_study_that_could_not_start_is_refused_and_has_no_folder(study_in, first: Path, tmp_path: Path) -> None:
    sizes = {"encoder.layers": 1, "encoder.width": 16, "encoder.heads": 2}
    values = {"training.epochs": 4, "init_from": str(first), "initialisation.take": ["encoder.*"]}
    path = study_in(recipe={"base": "tiny", "set": values | sizes})
    with pytest.raises(
        UserError, match=r"^init_from .*: tensor 'encoder\.subsampling\.convolutions\.0\.weight' has sh"
    ):
        check(read_study(path))
    assert not (tmp_path / "studies").exists()
    sizes |= {"encoder.channels": 4, "encoder.feed_forward": 16, "encoder.cgmlp": 16}
    check(read_study(study_in(recipe={"base": "tiny", "set": values | sizes})))


def test_a_trial_that_takes_the_training_of_another_has_the_record_of_its_start(
    make_recipe, first: Path, tmp_path: Path
) -> None:
    recipe = prepare(make_recipe({"training.epochs": 1, "init_from": str(first), "initialisation.take": ["encoder.*"]}))
    study = StudyFile.model_validate({"name": "s", "corpus": "/speech", "trials": 0, "baselines": ["ed"]})
    ledger = Ledger.create_or_open(tmp_path / "s", study, recipe, {})
    train(recipe, ledger.trial_folder(0), lambda _: None, score_tests=False)
    share_training(ledger, 0, 1)
    record, shared = (ledger.trial_folder(number) / INITIALISATION_FILE for number in (0, 1))
    assert shared.read_text() == record.read_text()
