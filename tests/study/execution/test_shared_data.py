from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.recipe import Recipe
from model.training.prepare import prepare
from study.config.search_settings import SearchSettings
from study.execution.shared_data import MOST_FORMS, list_forms, prepare_all


def make_search(recipe: dict[str, dict]) -> SearchSettings:
    return SearchSettings.model_validate({"ctc_weight": {"uniform": [0.1, 0.6]}, "recipe": recipe})


@pytest.mark.parametrize(
    ("recipe", "forms"),
    [
        ({}, []),
        ({"optimiser.learning_rate": {"choice": [1e-3, 2e-3]}}, []),
        ({"tokenizer.vocabulary": {"integer": [30, 32]}}, [(30,), (31,), (32,)]),
        ({"tokenizer.vocabulary": {"integer": [30, 30 + MOST_FORMS]}}, []),
        (
            {"data.speeds": {"choice": [[1.0], [0.9, 1.1]]}, "tokenizer.vocabulary": {"choice": [30, 40]}},
            [([1.0], 30), ([1.0], 40), ([0.9, 1.1], 30), ([0.9, 1.1], 40)],
        ),
    ],
)
def test_the_forms_are_all_combinations_of_searched_values_that_data_depends_on(
    recipe: dict[str, dict], forms: list[tuple]
) -> None:
    assert [tuple(values.values()) for values in list_forms(make_search(recipe))] == forms


def test_what_trials_will_read_is_there_before_the_first_of_them(make_recipe, corpus: Corpus, tmp_path: Path) -> None:
    # A corpus of its own: beside other tests' files nothing can be counted.
    folder = shutil.copytree(corpus.folder, tmp_path / "demo", ignore=shutil.ignore_patterns("cache"))
    base: Recipe = make_recipe({"data.corpus": str(folder)})
    search = make_search({"data.speeds": {"choice": [[1.0], [1.25]]}, "tokenizer.vocabulary": {"choice": [33, 35]}})
    cache = folder / "cache"
    assert prepare_all(base, search, prepare) == prepare(base)
    for vocabulary in (33, 35):
        assert len(list(cache.glob(f"unigram-{vocabulary}-*.model"))) == 1
    made = {path.name: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert sum(name.startswith("train@1.25-") for name in made) == 2, "labels of both vocabularies"
    assert (cache / "log-mel-v2" / "train@1.25" / "part-00000.npy").is_file()
    prepare_all(base, search, prepare)
    assert {path.name: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == made


def test_a_vocabulary_that_the_text_cannot_give_is_refused_before_the_first_trial(make_recipe) -> None:
    search = make_search({"tokenizer.vocabulary": {"choice": [30, 4000]}})
    with pytest.raises(UserError, match=r"tokenizer.vocabulary is 4000, which the training text cannot give"):
        prepare_all(make_recipe(), search, prepare)
