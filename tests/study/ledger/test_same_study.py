"""What may change in a study that continues, and which changes are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = with_values(named_recipe("tiny", "/speech"), {"data.fingerprint": "abc"})
SEARCH: dict[str, Any] = {
    "ctc_weight": {"uniform": [0.1, 0.6]},
    "auxiliary": {"count": [0, 2]},
    "recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}
CONTENT: dict[str, Any] = {"name": "s", "corpus": "/speech", "search": SEARCH}
MAY_CHANGE: dict[str, Any] = {
    "trials": 99,
    "budget": {"hours": 24.0},
    "early_stopping": {"rule": "none"},
    "failures": {"retries": 0, "same_error_stops": 9},
    "score_tests": "all",
    "baselines": ["ed", "decred-paper", "interctc"],
    "question": "none",
    "confirmation": {"finalists": 2, "seeds": 4},
    "workers": {"count": 4, "cpus": 2, "gpus": 1, "concurrent_trials": 2},
    "tracking": "http://elsewhere",
    "register_as": "probe-asr",
    "notify": {"mail": "me@example.org"},
    "disk": {"keep_best": 3},
    "objective": {"second": "dev/rtf"},
    "object_store": {"checkpoints": "s3://elsewhere/studies"},
    "storage": "elsewhere",
    "corpus": "/moved",
    "recipe": {"base": "small"},  # only the resulting recipe is compared, not its name
}


def study(**changes: Any) -> StudyFile:
    return StudyFile.model_validate(CONTENT | changes)


def open_ledger(folder: Path, recipe: Recipe = TINY, hashes: dict[str, str] | None = None, **changes: Any) -> Ledger:
    return Ledger.create_or_open(folder, study(**changes), recipe, {"hashes": hashes} if hashes else {})


@pytest.mark.parametrize("key", MAY_CHANGE)
def test_the_budget_and_where_and_how_a_study_runs_may_change(tmp_path: Path, key: str) -> None:
    open_ledger(tmp_path)
    Ledger.create_or_open(tmp_path, study(**{key: MAY_CHANGE[key]}), TINY, {})
    assert Ledger.open(tmp_path).study == study(**{key: MAY_CHANGE[key]})


def test_every_key_of_a_study_file_may_change_or_is_refused() -> None:
    """A new key has to be listed here or compared in `refuse_change`."""
    assert StudyFile.model_fields.keys() == MAY_CHANGE.keys() | {"name", "search", "objective"}


def test_how_a_trained_model_is_decoded_may_change(tmp_path: Path) -> None:
    open_ledger(tmp_path)
    decoded = with_values(TINY, {"decoding.beam": 5, "test_decoding": {"beam": 9}, "validation.batch_seconds": 7.0})
    assert open_ledger(tmp_path, decoded).base_recipe == decoded


@pytest.mark.parametrize("format_", [1, 2])
def test_a_study_that_was_trained_by_other_rules_is_opened_but_not_continued(tmp_path: Path, format_: int) -> None:
    folder = Path(shutil.copytree(GOLDEN / f"study_format_{format_}", tmp_path / "old"))
    old = Ledger.open(folder)
    with pytest.raises(
        UserError,
        match=rf"study '{old.study.name}' in .*/old was started with decred-study 0\.1\.0, which trained by other "
        "rules .* continue it with that version, or give the new study another name",
    ):
        Ledger.create_or_open(folder, old.study, old.base_recipe, {})


def test_baselines_may_be_removed(tmp_path: Path) -> None:
    open_ledger(tmp_path)
    open_ledger(tmp_path, baselines=[])


@pytest.mark.parametrize(
    "settings", [{"sampler": "random"}, {"seed": 5}, {"startup_trials": 9}, {"grid_points": 7}, {"repeat_seed": False}]
)
def test_how_points_are_sampled_may_change(tmp_path: Path, settings: dict[str, Any]) -> None:
    open_ledger(tmp_path)
    open_ledger(tmp_path, search=SEARCH | settings)


@pytest.mark.parametrize(
    ("changes", "recipe", "message"),
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
        ({}, {"training.epochs": 5}, "another base recipe (training.epochs was 10, is 5)"),
        ({}, {"training.seed": 5}, "another base recipe (training.seed was 0, is 5)"),
        ({}, {"data.seed": 5}, "another base recipe (data.seed was 0, is 5)"),
        ({}, {"validation.beam": 5}, "another base recipe (validation.beam was 1, is 5)"),
        ({}, {"init_from": "/weights"}, 'another base recipe (init_from was null, is "/weights")'),
        ({}, {"data.fingerprint": "xyz"}, 'another corpus (fingerprint was "abc", is "xyz")'),
    ],
)
def test_a_name_in_use_with_another_study_is_refused_with_what_changed(
    tmp_path: Path, changes: dict[str, Any], recipe: dict[str, Any], message: str
) -> None:
    open_ledger(tmp_path)
    before = (tmp_path / "study.yaml").read_text()
    with pytest.raises(UserError) as error:
        open_ledger(tmp_path, with_values(TINY, recipe), **changes)
    assert message in str(error.value)
    assert str(error.value).endswith("give the new study another name, or put the old value back")
    assert (tmp_path / "study.yaml").read_text() == before


def test_a_corpus_that_moved_is_the_same_corpus(tmp_path: Path) -> None:
    open_ledger(tmp_path)
    open_ledger(tmp_path, with_values(TINY, {"data.corpus": "/moved"}), corpus="/moved")


FILES = [("init_from", "init_fingerprint"), ("tokenizer.file", "tokenizer.fingerprint")]


@pytest.mark.parametrize(("path", "fingerprint"), FILES)
def test_files_that_a_recipe_names_are_compared_by_their_content(tmp_path: Path, path: str, fingerprint: str) -> None:
    first = with_values(TINY, {path: "/here", fingerprint: "abc"})
    open_ledger(tmp_path, first)
    open_ledger(tmp_path, with_values(TINY, {path: "/moved", fingerprint: "abc"}))
    with pytest.raises(UserError, match=rf'another base recipe \({fingerprint} was "abc", is "xyz"\)'):
        open_ledger(tmp_path, with_values(TINY, {path: "/here", fingerprint: "xyz"}))


@pytest.mark.parametrize(("path", "fingerprint"), FILES)
def test_a_file_without_a_fingerprint_yet_is_not_refused(tmp_path: Path, path: str, fingerprint: str) -> None:
    """A recipe has no fingerprints before it is prepared; afterwards it is compared again."""
    open_ledger(tmp_path, with_values(TINY, {path: "/here", fingerprint: "abc"}))
    Ledger.refuse_other(tmp_path, study(), with_values(TINY, {path: "/here"}))


@pytest.mark.parametrize("part", ["corpus", "tokenizer"])
def test_another_file_under_the_same_path_is_refused(tmp_path: Path, part: str) -> None:
    open_ledger(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc"})
    open_ledger(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc", "study_file": "other"})
    with pytest.raises(
        UserError,
        match=rf"in use with another {part} \(its content was abc, is xyz\); put the old one back, or give the new",
    ):
        open_ledger(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc", part: "xyz"})


def test_a_study_whose_manifest_has_no_hashes_continues(tmp_path: Path) -> None:
    open_ledger(tmp_path)
    open_ledger(tmp_path, hashes={"corpus": "abc", "tokenizer": "abc"})
