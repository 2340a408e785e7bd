"""What may change in a study that goes on, and what makes it another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger

TINY = with_values(named_recipe("tiny", "/speech"), {"data.fingerprint": "abc"})
SEARCH: dict[str, Any] = {
    "ctc_weight": {"uniform": [0.1, 0.6]},
    "auxiliary": {"count": [0, 2]},
    "recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}
CONTENT: dict[str, Any] = {"name": "s", "corpus": "/speech", "search": SEARCH}
MAY_CHANGE: dict[str, Any] = {
    "trials": 99,
    "early_stopping": {"rule": "none"},
    "failures": {"retries": 0, "same_error_stops": 9},
    "baselines": ["ed", "decred-paper", "interctc"],
    "workers": {"count": 4, "cpus": 2, "gpus": 1, "concurrent_trials": 2},
    "tracking": "http://elsewhere",
    "storage": "elsewhere",
    "corpus": "/moved",
    "recipe": {"base": "small"},  # how the recipe is named; what it then is, is compared
}


def study(**changes: Any) -> StudyFile:
    return StudyFile.model_validate(CONTENT | changes)


def opened(folder: Path, recipe: Recipe = TINY, hashes: dict[str, str] | None = None, **changes: Any) -> Ledger:
    return Ledger.create_or_open(folder, study(**changes), recipe, {"hashes": hashes} if hashes else {})


@pytest.mark.parametrize("key", MAY_CHANGE)
def test_budget_and_where_and_how_it_runs_may_change(tmp_path: Path, key: str) -> None:
    opened(tmp_path)
    Ledger.create_or_open(tmp_path, study(**{key: MAY_CHANGE[key]}), TINY, {})
    assert Ledger.open(tmp_path).study == study(**{key: MAY_CHANGE[key]})


def test_every_key_of_a_study_file_may_change_or_is_refused() -> None:
    """A new key has to be put on one side: here, or in `refuse_change`."""
    assert StudyFile.model_fields.keys() == MAY_CHANGE.keys() | {"name", "search", "objective"}


def test_baselines_may_be_fewer_too(tmp_path: Path) -> None:
    opened(tmp_path)
    opened(tmp_path, baselines=[])


@pytest.mark.parametrize(
    "how", [{"sampler": "random"}, {"seed": 5}, {"startup_trials": 9}, {"grid_points": 7}, {"repeat_seed": False}]
)
def test_how_points_are_found_may_change(tmp_path: Path, how: dict[str, Any]) -> None:
    opened(tmp_path)
    opened(tmp_path, search=SEARCH | how)


@pytest.mark.parametrize(
    ("changes", "recipe", "words"),
    [
        (
            {"search": SEARCH | {"ctc_weight": {"uniform": [0.1, 0.5]}}},
            {},
            "another search space (ctc_weight.uniform was [0.1, 0.6], is [0.1, 0.5])",
        ),
        (
            {"search": SEARCH | {"ctc_weight": {"log_uniform": [0.1, 0.6]}}},
            {},
            "another search space (ctc_weight.uniform was [0.1, 0.6], is null)",
        ),
        (
            {"search": SEARCH | {"auxiliary": None}},
            {},
            'another search space (auxiliary was {"count": [0, 2], "final_weight": [0.3, 0.9]}, is null)',
        ),
        (
            {"search": SEARCH | {"auxiliary": {"count": [0, 2], "layers": [1, 2]}}},
            {},
            "another search space (auxiliary.layers was null, is [1, 2])",
        ),
        (
            {"search": SEARCH | {"recipe": {}}},
            {},
            'another search space (recipe.optimiser.learning_rate was {"log_uniform": [0.0001, 0.01]}, is null)',
        ),
        (
            {"search": SEARCH | {"recipe": SEARCH["recipe"] | {"optimiser.warmup_steps": {"integer": [1, 9]}}}},
            {},
            'another search space (recipe.optimiser.warmup_steps was null, is {"integer": [1, 9]})',
        ),
        ({"objective": {"metric": "dev/cer"}}, {}, 'another objective (metric was "dev/wer", is "dev/cer")'),
        ({}, {"training.epochs": 5}, "another base recipe (training.epochs was 6, is 5)"),
        ({}, {"training.seed": 5}, "another base recipe (training.seed was 0, is 5)"),
        ({}, {"data.seed": 5}, "another base recipe (data.seed was 0, is 5)"),
        ({}, {"decoding.beam": 5}, "another base recipe (decoding.beam was 1, is 5)"),
        ({}, {"init_from": "/weights"}, 'another base recipe (init_from was null, is "/weights")'),
        ({}, {"data.fingerprint": "xyz"}, 'another corpus (fingerprint was "abc", is "xyz")'),
    ],
)
def test_a_name_in_use_with_another_study_is_refused_with_what_changed(
    tmp_path: Path, changes: dict[str, Any], recipe: dict[str, Any], words: str
) -> None:
    opened(tmp_path)
    before = (tmp_path / "study.yaml").read_text()
    with pytest.raises(UserError) as error:
        opened(tmp_path, with_values(TINY, recipe), **changes)
    assert words in str(error.value)
    assert str(error.value).endswith("give the new study another name, or put the old value back")
    assert (tmp_path / "study.yaml").read_text() == before


def test_a_corpus_that_moved_is_the_same_corpus(tmp_path: Path) -> None:
    opened(tmp_path)
    opened(tmp_path, with_values(TINY, {"data.corpus": "/moved"}), corpus="/moved")


FILES = [("init_from", "init_fingerprint"), ("tokenizer.file", "tokenizer.fingerprint")]


@pytest.mark.parametrize(("place", "fingerprint"), FILES)
def test_files_that_a_recipe_names_are_told_apart_by_their_content(
    tmp_path: Path, place: str, fingerprint: str
) -> None:
    first = with_values(TINY, {place: "/here", fingerprint: "abc"})
    opened(tmp_path, first)
    opened(tmp_path, with_values(TINY, {place: "/moved", fingerprint: "abc"}))
    with pytest.raises(UserError, match=rf'another base recipe \({fingerprint} was "abc", is "xyz"\)'):
        opened(tmp_path, with_values(TINY, {place: "/here", fingerprint: "xyz"}))


@pytest.mark.parametrize(("place", "fingerprint"), FILES)
def test_a_file_whose_content_is_not_known_yet_is_refused_by_nothing(
    tmp_path: Path, place: str, fingerprint: str
) -> None:
    """Before it is prepared, a recipe has no fingerprints; after, it is compared again."""
    opened(tmp_path, with_values(TINY, {place: "/here", fingerprint: "abc"}))
    Ledger.refuse_other(tmp_path, study(), with_values(TINY, {place: "/here"}))


@pytest.mark.parametrize("part", ["corpus", "tokenizer"])
def test_another_file_behind_equal_values_is_refused(tmp_path: Path, part: str) -> None:
    opened(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc"})
    opened(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc", "study_file": "other"})
    with pytest.raises(
        UserError,
        match=rf"in use with another {part} \(its content was abc, is xyz\); put the old one back, or give the new",
    ):
        opened(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc", part: "xyz"})


def test_a_study_whose_manifest_has_no_hashes_goes_on(tmp_path: Path) -> None:
    opened(tmp_path)
    opened(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc"})
