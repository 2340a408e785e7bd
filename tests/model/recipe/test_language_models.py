"""The recipe's keys of language models in decoding: what they change in hashes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import UserError
from model.recipe.decoding import DecodingConfig
from model.recipe.files import read_recipe
from model.strict import to_yaml
from model.weights.found_decoding import identify_search

WITH_LM = {"decoding.lm": "lm.safetensors", "decoding.lm_fingerprint": "abc"}


def test_decodings_without_language_models_keep_the_hashes_that_they_had_before_there_were_any() -> None:
    assert DecodingConfig().hash == "58041ea68c71ca96"
    assert DecodingConfig(beam=8, ctc_weight=0.5, length_penalty=0.0).hash == "29d9432be2c7f2e2"
    assert DecodingConfig(mixing=(0.25, 0.75), tokens_per_second="none").hash == "25577f973124d2f5"


def test_a_hash_has_the_content_of_a_language_model_that_counts_and_not_its_place() -> None:
    plain = DecodingConfig()
    assert DecodingConfig(lm="a", lm_fingerprint="1").hash == plain.hash, "its weight is 0"
    assert DecodingConfig(ilm_estimator="zeroed").hash == plain.hash
    counted = DecodingConfig(lm="a", lm_fingerprint="1", lm_weight=0.3)
    assert counted.hash == DecodingConfig(lm="b", lm_fingerprint="1", lm_weight=0.3).hash
    others = [
        plain,
        counted,
        DecodingConfig(lm="a", lm_fingerprint="2", lm_weight=0.3),
        DecodingConfig(lm="a", lm_fingerprint="1", lm_weight=0.4),
        DecodingConfig(ilm_weight=0.1),
        DecodingConfig(ilm_weight=0.1, ilm_estimator="zeroed"),
    ]
    assert len({decoding.hash for decoding in others}) == len(others)


def test_a_training_is_the_same_with_any_language_model(make_recipe) -> None:
    weights = {"decoding.lm_weight": 0.3, "decoding_search.lm_weight": [0.2], "decoding_search.ilm_weight": [0.1]}
    assert make_recipe(WITH_LM | weights).hash == make_recipe().hash


def test_a_search_that_tries_language_models_is_another_one_with_another_model(make_recipe) -> None:
    assert identify_search(make_recipe()).keys() == {"recipe_hash", "start_hash", "settings"}
    assert "lm_weight" not in identify_search(make_recipe())["settings"], "as in files of earlier versions"
    tries = {"decoding_search.lm_weight": [0.2]}
    first, second = (
        identify_search(make_recipe(WITH_LM | tries | {"decoding.lm_fingerprint": content})) for content in ("1", "2")
    )
    assert first != second
    assert first == identify_search(make_recipe(WITH_LM | tries | {"decoding.lm_fingerprint": "1", "decoding.lm": "b"}))


def test_weights_without_a_language_model_and_beyond_their_bounds_are_refused(make_recipe) -> None:
    with pytest.raises(UserError, match=r"decoding: lm_weight is 0.3, but lm names no language model; set lm to the"):
        make_recipe({"decoding.lm_weight": 0.3})
    with pytest.raises(
        UserError, match=r"decoding_search.lm_weight is \[0.2\], but decoding.lm names no language model"
    ):
        make_recipe({"decoding_search.lm_weight": [0.2]})
    with pytest.raises(UserError, match=r"'decoding.ilm_weight' is 1.5; input should be less than or equal to 1"):
        make_recipe({"decoding.ilm_weight": 1.5})
    with pytest.raises(UserError, match=r"'decoding_search.ilm_weight.0' is 0.0; input should be greater than 0"):
        make_recipe({"decoding_search.ilm_weight": [0.0]})
    with pytest.raises(UserError, match=r"'decoding.ilm_estimator' is 'mean'; input should be 'skipped' or 'zeroed'"):
        make_recipe({"decoding.ilm_estimator": "mean"})


def test_paths_of_language_models_are_relative_to_the_recipe_file(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(WITH_LM | {"test_decoding": {"lm": "../other.safetensors"}})
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(to_yaml(recipe))
    found = read_recipe(tmp_path / "recipes" / "mine.yaml")
    assert found.decoding.lm == str(tmp_path / "recipes" / "lm.safetensors")
    assert found.test_decoding is not None
    assert found.test_decoding.lm == str(tmp_path / "other.safetensors")
